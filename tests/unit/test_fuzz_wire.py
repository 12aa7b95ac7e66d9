"""The properties of the messages between our processes, on what is nearly one of them."""

from __future__ import annotations

from typing import Any

import msgpack
from fuzz import wire as fuzzed
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import edited

from farm import wire
from farm.wire.layout import KINDS, LAYOUTS

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4) | st.binary(max_size=4), inner, max_size=3)
    ),
    max_leaves=10,
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Fields of a message of some kind, most of them of the right type."""
    cls = draw(st.sampled_from(sorted(KINDS, key=KINDS.__getitem__)))
    right: list[Any] = [fuzzed._EXAMPLES[check](cls) for _, check, _ in LAYOUTS[cls]]
    fields = [draw(values) if draw(st.integers(0, 3)) == 0 else field for field in right]
    return b"M" + bytes([KINDS[cls]]) + msgpack.packb([wire.PROTOCOL, *fields])


@st.composite
def jobs(draw: st.DrawFn) -> bytes:
    """Jobs whose parts may be missing, or too many."""
    found = [
        [draw(st.integers()) for _ in range(1)]
        and [number, "box/tool", draw(st.text(max_size=5)), 1, draw(st.lists(st.text())), 9]
        for number in range(draw(st.integers(0, 3)))
    ]
    wanted = sum(len(head[4]) for head in found)
    parts = draw(st.lists(st.binary(max_size=9), min_size=wanted, max_size=wanted + 1))
    head = bytes([wire.JOBS_KIND]) + msgpack.packb([wire.PROTOCOL, found, draw(st.booleans())])
    return fuzzed.JOBS + fuzzed.DIVIDER.join([head, *parts])


@settings(max_examples=200)
@given(heads() | edited(heads()))
def test_heads_with_odd_fields(data: bytes) -> None:
    """A field of another type that comes through; an error that nobody expects."""
    fuzzed.check(data)


@settings(max_examples=100)
@given(jobs() | edited(jobs()))
def test_jobs_with_odd_parts(data: bytes) -> None:
    """A part that goes to another job, or is lost."""
    fuzzed.check(data)
