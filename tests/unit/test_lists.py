import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from farm.drilling import lists
from farm.drilling.lists import OrjsonLists, SimdjsonLists, cut, digits, is_nulls
from farm.errors import ReadError

READERS = [OrjsonLists()] if lists.Parser is None else [OrjsonLists(), SimdjsonLists()]
each_reader = pytest.mark.parametrize("reader", READERS, ids=lambda r: type(r).__name__)

TOKENS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr),
    st.integers(-50, 50).map(str),
    st.integers(-(2**70), 2**70).map(str),
    st.decimals(-100, 100, places=3).map(str),
    st.from_regex(r"\A-?[0-9]{0,25}\.?[0-9]{0,25}([eE][+-]?[0-9]{0,3})?\Z"),
    st.sampled_from(["-0", "-0.0", "1E5", "1e-400", "5e-324", "1e999", "null", "true", '"1"',
                     "NaN", "-Infinity", "01", "+1", "", "{}", "\x0c1", "1 2"]),
)  # fmt: skip


@pytest.mark.skipif(lists.Parser is None, reason="pysimdjson is not installed")
def test_the_fastest_reader_at_hand_is_taken(monkeypatch):
    """Prevents an installed pysimdjson that nobody uses, and a farm that can't do without it."""
    assert isinstance(lists.list_reader(), SimdjsonLists)
    monkeypatch.setattr(lists, "Parser", None)
    assert isinstance(lists.list_reader(), OrjsonLists)


@each_reader
@given(tokens=st.lists(TOKENS, max_size=6), separator=st.sampled_from([",", ", ", " ,\n", ",\t\r"]))
@example(tokens=["18446744073709551615"], separator=",")
@example(tokens=["18446744073709551616"], separator=",")
@settings(max_examples=400, deadline=None)
def test_a_list_is_refused_or_read_to_the_last_bit(reader, tokens, separator):
    """Prevents an answer that depends on which package happens to be installed."""
    raw = f"[{separator.join(tokens)}]".encode()
    try:
        found = reader.numbers(raw)
    except ReadError:
        return
    expected = orjson.loads(raw)
    assert {type(value) for value in expected} <= {int, float}
    assert found.tobytes() == np.array([float(v) for v in expected], np.float64).tobytes()
    reader.check(raw)


@each_reader
def test_ordinary_numbers_are_never_refused(reader):
    """Prevents a quick way that gives up on everything and goes unnoticed."""
    raw = b"[-0.654,0, 12,1.5e-3,9007199254740993]"
    np.testing.assert_array_equal(reader.numbers(raw), [-0.654, 0, 12, 1.5e-3, 2.0**53])
    assert len(reader.numbers(b"[]")) == 0


@each_reader
@pytest.mark.parametrize(
    "raw",
    [b"[1,null]", b"[true]", b'["1"]', b"[1,2", b"[1,]", b"[NaN]", b"[1e999]",
     b"[\xff]", b"", b"[1]]", b"[1]\x00"],
)  # fmt: skip
def test_what_is_no_list_of_numbers_is_refused(reader, raw):
    with pytest.raises(ReadError):
        reader.numbers(raw)


@each_reader
@pytest.mark.parametrize("raw", [b"[1,", b"[nul]", b"[NaN]", b"[-]", b"[1e999]", b"[1][2]", b""])
def test_what_is_no_json_fails_the_check(reader, raw):
    with pytest.raises(ReadError):
        reader.check(raw)


@each_reader
def test_nulls_and_booleans_pass_the_check(reader):
    reader.check(b"[null,true,false,1]")


@each_reader
def test_what_was_read_outlives_the_next_list(reader):
    """Prevents torque samples in the thrust column: the parser uses its memory again."""
    first = reader.numbers(b"[1,2,3]")
    with pytest.raises(ReadError):
        reader.numbers(b"[1,null,3]")
    second = reader.numbers(b"[4,5,6]")
    reader.check(b"[7,8,9]")
    assert (first.tolist(), second.tolist()) == ([1, 2, 3], [4, 5, 6])


@pytest.mark.skipif(lists.Parser is None, reason="pysimdjson is not installed")
def test_a_parser_in_use_elsewhere_is_a_refusal_not_a_crash():
    """Prevents a RuntimeError out of read_hole: simdjson refuses to overwrite what is looked at."""
    reader = SimdjsonLists()
    held = reader._parser.parse(b"[1]")
    with pytest.raises(ReadError):
        reader.numbers(b"[2]")
    with pytest.raises(ReadError):
        reader.check(b"[2]")
    assert held.as_list() == [1]


# Cutting: the rest with the lists put back must be the message, or a hole gets another's samples.


def put_back(payload: bytes) -> object:
    """A message as its rest and its lists tell it."""
    message = cut(payload)

    def restore(value: object) -> object:
        if isinstance(value, dict):
            return {key: restore(inner) for key, inner in value.items()}
        try:
            return orjson.loads(message.lists[message.mark_of(value)])
        except ReadError:
            return [restore(inner) for inner in value] if isinstance(value, list) else value

    return restore(orjson.loads(message.rest))


@pytest.mark.parametrize(
    ("payload", "number_of_lists"),
    [
        (b'{"a":{"Value":[1,2]},"b":{"Value":[3]}}', 2),
        (b'{"a":{"Value" :\r\n\t[1, 2]}}', 1),
        (b'{"a":{"Value":[]}}', 1),
        (b'{"a":{"Value":[null,true]}}', 1),
        (b'{"Value":[1],"Value":[2]}', 2),
        (b'{"Value":["Value",":[3]"]}', 0),
        (b'{"Value":["a]b"],"c":{"Value":[1]}}', 1),
        (b'{"Value":[[1,2],[3]]}', 0),
        (b'{"Value":[{"Value":[1,2]},{"Value":[3]}]}', 2),
        (b'{"MyValue":[1],"Value":{"Value":[2]}}', 1),
        (b'{"a":"Value","b":["Value"],"Value":"[1]"}', 0),
    ],
)
def test_cut_lists_put_back_give_the_message(payload, number_of_lists):
    assert len(cut(payload).lists) == number_of_lists
    assert put_back(payload) == orjson.loads(payload)


def test_no_message_can_forge_a_mark():
    """Prevents one list in the place of another by a text that looks like what we put there."""
    with pytest.raises(ReadError):
        cut(b'{"a":{"Value":["\\u00000"]},"b":{"Value":[1]}}')
    message = cut(b'{"a":{"Value":["\x000"]},"b":{"Value":[1]}}')
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(message.rest)
    for value in (None, "\0000", [], ["\0007"], [0], [["\0000"]], ["\0000", 1], {"\0000": 1}):
        with pytest.raises(ReadError):
            message.mark_of(value)


def test_what_cutting_would_mend_is_still_no_json():
    """Prevents an accepted message whose list began inside a text, or behind a bare word."""
    for payload in (b'{"a":true"Value":[1]}', b'{"a":"x"Value":[1]}', b'{"Value":[1}]'):
        with pytest.raises((ReadError, orjson.JSONDecodeError)):
            put_back(payload)


def test_a_list_without_end_is_refused():
    with pytest.raises(ReadError):
        cut(b'{"Value":[1,2')


def test_a_heap_of_lists_is_cut_only_so_far():
    """Prevents a made-up message of tiny lists that holds up the worker."""
    payload = b"[" + b",".join([b'{"Value":[1]}'] * 500) + b"]"
    assert len(cut(payload).lists) == lists.MAX_LISTS
    assert put_back(payload) == orjson.loads(payload)


def test_a_heap_of_lists_that_can_not_be_cut_is_given_up(monkeypatch):
    """Prevents seconds in a message of 4 MB that begins list after list and ends none of them."""
    tried = []
    plain = lists._is_plain
    monkeypatch.setattr(lists, "_is_plain", lambda *where: tried.append(where) or plain(*where))
    message = cut(b'{"Value":["a",' * 5000 + b'"Value":[1]')
    assert len(tried) == lists.MAX_TRIED
    assert not message.lists
    payload = b"[" + b",".join([b'{"Value":["a"]}'] * lists.MAX_TRIED + [b'{"Value":[1]}']) + b"]"
    assert not cut(payload).lists
    assert put_back(payload) == orjson.loads(payload)
    assert len(cut(payload.replace(b'{"Value":["a"]},', b"", 1)).lists) == 1


# Shortcuts: what they take for digits or nulls must be that.


@given(st.one_of(st.lists(st.integers(-2, 12), max_size=6).map(orjson.dumps),
                 st.text(alphabet="[]0123456789,. -", max_size=8).map(str.encode)))  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_digits_are_read_as_json_reads_them_or_not_at_all(raw):
    found = digits(raw) if raw.startswith(b"[") and raw.endswith(b"]") else None
    if found is not None:
        assert found.tolist() == orjson.loads(raw)


@pytest.mark.parametrize(
    ("raw", "values"),
    [(b"[1]", [1]), (b"[0,9]", [0, 9]), (b"[]", None), (b"[1,]", None), (b"[12]", None),
     (b"[1,10]", None), (b"[-1]", None), (b"[1.0]", None), (b"[1 2]", None),
     ("[\u0661]".encode(), None)],
)  # fmt: skip
def test_only_single_digits_take_the_shortcut(raw, values):
    found = digits(raw)
    assert (None if found is None else found.tolist()) == values


@given(st.text(alphabet="nul,", max_size=16))
def test_nulls_are_nulls(inner):
    raw = f"[{inner}]".encode()
    try:
        is_it = set(orjson.loads(raw)) == {None}
    except orjson.JSONDecodeError:
        is_it = False
    assert is_nulls(raw) == is_it


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_nulls_of_any_number_are_known(count):
    assert is_nulls(b"[" + b",".join([b"null"] * count) + b"]")
    assert not is_nulls(b"[" + b",".join([b"null"] * count) + b",]")
