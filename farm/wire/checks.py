"""What the value of a field may be, by the field's type: strictly that, and not too deep."""

from __future__ import annotations

import typing
from typing import Any

from farm.wire.limits import MAX_DEPTH

if typing.TYPE_CHECKING:
    from collections.abc import Callable


def is_a(*accepted: type[Any]) -> Callable[[Any], bool]:
    """A check for exactly these types: a bool is no int here."""
    return lambda value: type(value) in accepted


def all_are(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A check for a list of nothing but such."""
    return lambda value: type(value) is list and all(map(check, value))


def _is_note(value: Any) -> bool:
    """Whether this was a pid and a sentence; msgpack has made a list of the tuple."""
    return type(value) is list and [type(item) for item in value] == [int, str]


def is_shallow(value: Any, room: int = MAX_DEPTH) -> bool:
    """Whether arrays and maps lie in it no deeper than that."""
    if type(value) is dict:
        value = value.values()
    elif type(value) is not list:
        return True
    if not room:
        return False
    for each in value:  # most of what there is, is no container: it costs no call
        kind = type(each)
        if (kind is list or kind is dict) and not is_shallow(each, room - 1):
            return False
    return True


def _is_number(value: Any) -> bool:
    return type(value) in (float, int) and -_MOST <= value <= _MOST  # NaN is none


_MOST = 1e18  # of any number that is not an id
are_notes = all_are(_is_note)
CHECKS: dict[Any, Callable[[Any], bool]] = {
    int: is_a(int),
    float: _is_number,
    str: is_a(str),
    bool: is_a(bool),
    bytes: is_a(bytes),
    # other keys than str are refused by the unpacker
    dict[str, Any]: lambda value: type(value) is dict and is_shallow(value),
    list[int]: all_are(is_a(int)),
    list[str]: all_are(is_a(str)),
    list[tuple[int, str]]: are_notes,
    Any: is_shallow,
}
