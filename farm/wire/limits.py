"""How large the messages between our processes may be, in bytes, items and characters."""

from __future__ import annotations

# A head carries ids and one answer; 1 MB is far beyond both. It bounds what a hostile head can
# become in memory: empty maps, one byte each, grow by a factor of 64.
MAX_HEAD_BYTES = 1_000_000
MAX_FRAMES = 1024  # parts of one Jobs message; frames of one message of results
MAX_ITEMS = 100_000  # of one array or map
# Arrays and maps inside each other; a thousand would end who formats or compares them.
MAX_DEPTH = 64
MAX_NAME_CHARS = 255  # of a worker, a host, a file, a model; DNS allows as many
MAX_KEY_CHARS = 1000  # of a source or a part id, as the guard lets in
MAX_REASON_CHARS = 100_000  # a model may say much, with a traceback in it
