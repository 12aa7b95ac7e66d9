"""Bytes as a broken peer may send them: valid ones, with a few edits."""

from __future__ import annotations

from hypothesis import strategies as st

_EDITS = ("cut", "overwrite", "insert", "remove", "repeat")


@st.composite
def edited(draw: st.DrawFn, valid: st.SearchStrategy[bytes], *, most: int = 4) -> bytes:
    """What `valid` draws after up to `most` edits."""
    data = draw(valid)
    for _ in range(draw(st.integers(0, most))):
        at = draw(st.integers(0, len(data)))
        span = draw(st.integers(1, 8))
        edit = draw(st.sampled_from(_EDITS))
        if edit == "cut":
            data = data[:at]
        elif edit == "overwrite":
            data = data[:at] + draw(st.binary(min_size=span, max_size=span)) + data[at + span :]
        elif edit == "insert":
            data = data[:at] + draw(st.binary(max_size=span)) + data[at:]
        elif edit == "remove":
            data = data[:at] + data[at + span :]
        else:
            data = data[:at] + data[at : at + span] * draw(st.integers(2, 5)) + data[at + span :]
    return data
