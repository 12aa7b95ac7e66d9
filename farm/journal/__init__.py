"""The journal: what was received, paired, answered and confirmed, on disk before it counts.

`records` says what is written, `store` writes it (SQLite and `segments`), `writer` does so on a
thread of its own, `journal` is the broker's end, `recovery` what a start finds, `reader` what the
command line asks, `retention` what goes when.
"""
