"""The properties of the units' messages, on messages that are nearly right."""

from __future__ import annotations

import json
from typing import Any

from fuzz import messages
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import edited

PATHS = [field.path for field in messages._FIELDS]
numbers = st.integers(-(10**20), 10**20) | st.floats(width=64) | st.floats(-50, 50)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
columns = st.lists(st.floats(-1e3, 1e3) | st.integers(-3, 300), min_size=3, max_size=3)
entries = st.fixed_dictionaries({"Value": columns | values}) | values


@st.composite
def written(draw: st.DrawFn) -> bytes:
    """One message with some of the fields, written as some gateway might."""
    prefix = draw(st.sampled_from(["", *messages._PREFIXES]))
    suffix = draw(st.sampled_from(messages._SUFFIXES))
    chosen = draw(st.lists(st.sampled_from(PATHS), max_size=6))
    payload: dict[str, Any] = {f"{prefix}{path}{suffix}": draw(entries) for path in chosen}
    data_set: Any = {"Payload": payload}
    message = {"Messages": draw(st.sampled_from([data_set, [data_set], [None, data_set]]))}
    separators = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    text = json.dumps(message, separators=separators, ensure_ascii=draw(st.booleans()))
    return text.encode("utf-8", "surrogatepass")


@st.composite
def whole(draw: st.DrawFn) -> bytes:
    """A Trace that can be read, its columns of one length; so the quick way is gone, too."""
    samples = draw(st.integers(1, 6))
    column = st.lists(
        st.floats(-1e3, 1e3, width=32) | st.integers(-9, 9), min_size=samples, max_size=samples
    )
    steps = st.lists(st.integers(0, 9), min_size=samples, max_size=samples)
    ids = messages._IDS
    payload = {path: {"Value": draw(column)} for path in (ids.position, ids.torque, ids.thrust)}
    payload[ids.step] = {"Value": draw(steps)}
    payload[ids.trace_result_id] = {"Value": draw(st.integers() | st.text())}
    return json.dumps({"Messages": {"Payload": payload}}, separators=(",", ":")).encode()


def parts(message: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda *pieces: messages.DIVIDER.join(pieces),
        message,
        message,
        message,
        st.binary(max_size=60) | st.just(messages._TOPIC),
    )


@settings(max_examples=150)
@given(parts(written()))
def test_odd_values_in_sound_messages(data: bytes) -> None:
    """A value of another type that is taken, or that ends a worker; two readers that disagree."""
    messages.check(data)


@settings(max_examples=150)
@given(parts(edited(whole())))
def test_damaged_traces(data: bytes) -> None:
    """A Trace that was cut or overwritten read as another one by one of the ways."""
    messages.check(data)
