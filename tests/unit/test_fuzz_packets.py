"""The properties of the cutter of MQTT packets, on streams that are nearly right."""

from __future__ import annotations

from fuzz import packets as fuzzed
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import edited

from farm.broker import packets


def stream(*, v5: bool) -> st.SearchStrategy[bytes]:
    publish = st.builds(
        lambda topic, payload, mid, is_retained, is_dup: packets.publish(
            topic, payload, mid, is_retained=is_retained, is_dup=is_dup, v5=v5
        ),
        st.text(max_size=6),
        st.binary(max_size=200),
        st.integers(0, 0xFFFF),
        st.booleans(),
        st.booleans(),
    )
    puback = st.builds(packets.puback, st.integers(0, 0xFFFF))
    others = st.sampled_from([b"\xd0\x00", b"\x20\x02\x00\x00", b"\x40\x03\x00\x09\x87"])
    return st.lists(publish | puback | others, max_size=5).map(b"".join)


@st.composite
def inputs(draw: st.DrawFn) -> bytes:
    size, v5 = draw(st.integers(0, 127)), draw(st.booleans())
    return bytes((size << 1 | v5,)) + draw(edited(stream(v5=v5)))


@settings(max_examples=300)
@given(inputs())
def test_streams_cut_anywhere_and_damaged(data: bytes) -> None:
    """Packets that depend on how TCP cut them; a parser of ours that reads others than the next."""
    fuzzed.check(data)
