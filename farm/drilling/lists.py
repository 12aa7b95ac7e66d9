"""The lists of values in a message, cut out of its raw bytes and read without Python numbers.

Owns when a list may be read by itself, and the two ways to read one: with pysimdjson where it is
installed, else with orjson. Whatever is odd is refused here without a cause worth telling: then
the whole message has to be parsed, and its reader tells. Knows nothing of fields and holes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np
import orjson

from farm.errors import ReadError

if TYPE_CHECKING:
    from numpy.typing import NDArray

try:
    from simdjson import Parser
except ImportError:  # an optional package: not every platform has a wheel of it
    Parser = None  # type: ignore[assignment,misc]

MAX_LISTS: Final = 16  # a trace has 6; bounds the calls that a made-up message can cost
MAX_TRIED: Final = 256  # keys that may begin a list: bounds what those cost that begin none
# Keys of texts that no message can hold: a NUL in JSON takes an escape, and we cut none that has
# one. By them a list that was cut is known again, whatever else is in the message.
_MARKS: Final = tuple(f"\0{number}" for number in range(MAX_LISTS))
_MARKS_AS_JSON: Final = tuple(orjson.dumps(mark) for mark in _MARKS)

_WS = rb"[ \t\r\n]{0,200}"  # JSON's own white space, bounded so that no input makes it quadratic
_LIST_OF_VALUES = re.compile(rb'"Value"' + _WS + b":" + _WS + rb"\[")
_NUMBER_BYTES: Final = b"0123456789+-.eE, \t\r\n"
_NULL: Final = b"null,"


class ListReader(Protocol):
    """Reads one list of JSON that holds no text and nothing nested, given with its brackets."""

    def numbers(self, raw: bytes) -> NDArray[np.float64]:
        """The list's numbers, (n,), n >= 0, exactly as orjson and Python's `float` read them.

        Raises:
            ReadError: it is no JSON, it holds something else, or this reader isn't certain.
        """

    def check(self, raw: bytes) -> None:
        """Does nothing if the list is JSON, of whatever values.

        Raises:
            ReadError: it is not, or this reader isn't certain.
        """


class SimdjsonLists:
    """Reads lists with pysimdjson, which hands over a buffer and makes no object of a number."""

    def __init__(self) -> None:
        self._parser = Parser()

    def numbers(self, raw: bytes) -> NDArray[np.float64]:
        """See `ListReader`."""
        try:
            # No name holds the parsed list: the parser refuses its next message while it lives,
            # as it also does where two threads meet here.
            buffer = self._parser.parse(raw).as_buffer(of_type="d")  # type: ignore[union-attr]
        except (ValueError, TypeError, RuntimeError) as error:
            raise ReadError(f"the list is not of numbers ({error})") from error
        return np.frombuffer(buffer, dtype=np.float64)

    def check(self, raw: bytes) -> None:
        """See `ListReader`."""
        try:
            self._parser.parse(raw)
        except (ValueError, RuntimeError) as error:
            raise ReadError(f"the list is no JSON ({error})") from error


class OrjsonLists:
    """Reads lists with orjson, which is always there."""

    def numbers(self, raw: bytes) -> NDArray[np.float64]:
        """See `ListReader`."""
        # By its bytes, which is cheaper than by the types: NumPy takes null and true for numbers.
        if raw.translate(None, _NUMBER_BYTES) != b"[]":
            raise ReadError("the list is not of numbers")
        values = self._parse(raw)
        return np.fromiter(values, dtype=np.float64, count=len(values))

    def check(self, raw: bytes) -> None:
        """See `ListReader`."""
        self._parse(raw)

    @staticmethod
    def _parse(raw: bytes) -> list[float]:
        try:
            values: list[float] = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise ReadError(f"the list is no JSON ({error})") from error
        return values


def list_reader() -> ListReader:
    """The fastest reader of lists that this environment has."""
    return OrjsonLists() if Parser is None else SimdjsonLists()


class CutMessage(NamedTuple):
    """A message without its lists of values.

    Attributes:
        rest: the message with `[mark]` for each list. If it is JSON, and each list is, so is the
            message; and what it means is what the rest means with the lists put back.
        lists: each list with its brackets, by its mark.
    """

    rest: bytes
    lists: dict[str, bytes]

    def mark_of(self, value: object) -> str:
        """The mark of the list for which a value of the parsed rest stands.

        Raises:
            ReadError: it is a value of its own.
        """
        mark = value[0] if isinstance(value, list) and len(value) == 1 else None
        if isinstance(mark, str) and mark in self.lists:
            return mark
        raise ReadError("the value is no list that was cut")


def cut(payload: bytes) -> CutMessage:
    """Cuts lists without texts, and with nothing nested, out of a message: up to `MAX_LISTS`.

    Beyond `MAX_TRIED` lists of any kind, the rest of the message stays as it is.

    Raises:
        ReadError: it holds an escape, or a list that doesn't end.
    """
    # Without escapes every quote begins or ends a text. In JSON none begins right behind a letter,
    # so what the pattern finds is a key and its list, never the inside of a text.
    if b"\\" in payload:
        raise ReadError("the message holds an escape")
    kept: list[bytes] = []
    lists: dict[str, bytes] = {}
    kept_to = searched_to = end = 0
    for _ in range(MAX_TRIED):
        found = _LIST_OF_VALUES.search(payload, searched_to)
        if found is None or len(lists) == MAX_LISTS:
            break
        start = searched_to = found.end()
        if end < start:  # else the bracket found last is the next one still: no byte is read twice
            end = payload.find(b"]", start)
        if end < 0:
            raise ReadError("a list does not end")
        if _is_plain(payload, start, end):
            kept += payload[kept_to:start], _MARKS_AS_JSON[len(lists)]
            lists[_MARKS[len(lists)]] = payload[start - 1 : end + 1]
            kept_to = searched_to = end
    kept.append(payload[kept_to:])
    return CutMessage(b"".join(kept), lists)


def digits(raw: bytes) -> NDArray[np.uint8] | None:
    """The (n,) numbers of a list of single digits without white space, n >= 1; else None.

    So most gateways write step numbers: to look at every other byte is all the reading it takes.
    """
    values = raw[1:-1:2]
    if not values.isdigit() or raw[2:-1:2] != b"," * (len(values) - 1):
        return None
    return np.frombuffer(values, dtype=np.uint8) - np.uint8(ord("0"))


def is_nulls(raw: bytes) -> bool:
    """Whether a list holds nothing but nulls without white space, as of what wasn't measured."""
    return len(raw) > len(_NULL) and raw[1:-1] == (_NULL * (len(raw) // len(_NULL)))[:-1]


def _is_plain(payload: bytes, start: int, end: int) -> bool:
    """Whether a list holds no text, and nothing nested that could pass a limit of depth."""
    # Quotes first: no list can begin before the one that is found, so none is searched twice.
    return all(payload.find(odd, start, end) < 0 for odd in (b'"', b"[", b"{"))
