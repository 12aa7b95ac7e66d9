"""Where the ids stand in a message, found by its grammar: slow, and in any spelling.

A farm reads an id wherever a parser finds it: as a bare value, behind other members of its entry,
under a key with escapes in it. All other bytes stay as they were, which writing it anew would not
promise: numbers have many spellings.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import orjson

from farm.drilling.fields import canonical_id
from farm.errors import ReadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_SPACE: Final = re.compile(r"[ \t\r\n]*+")
_DECODER: Final = json.JSONDecoder(strict=False)

Span = tuple[int, int]


def rewrite_ids(
    payload: bytes, old_id: str, new_id: str, is_id: Callable[[str], bool]
) -> bytes | None:
    """The payload with another id in the place of one; a text stays one, a number, too.

    Args:
        payload: JSON, which may be cut.
        old_id: as `canonical_id` says it.
        new_id: digits.
        is_id: whether an id stands under a key.

    Returns:
        None where it is no UTF-8.
    """
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return None
    pieces, position = [], 0
    for start, end in _ids(text, is_id):
        if start < position or _read(text[start:end]) != old_id:
            continue
        new = orjson.dumps(new_id).decode() if text[start] == '"' else new_id
        pieces += [text[position:start], new]
        position = end
    return "".join([*pieces, text[position:]]).encode()


def _ids(text: str, is_id: Callable[[str], bool]) -> Iterator[Span]:
    """The values under the keys of ids, in their order."""
    for found in _STRING.finditer(text):  # nothing else in JSON has quotes
        at = _after(text, found.end())
        if text[at : at + 1] != ":" or not is_id(_decoded(found[0])):
            continue
        at = _after(text, at + 1)
        if text[at : at + 1] == "{":
            yield from _values(text, at)
        elif (end := _end(text, at)) is not None:
            yield at, end


def _values(text: str, at: int) -> Iterator[Span]:
    """The values of the members "Value" of the object that begins there, as far as it goes."""
    at = _after(text, at + 1)
    while text[at : at + 1] == '"':
        key_end = _end(text, at)
        if key_end is None:
            return
        key, at = _decoded(text[at:key_end]), _after(text, key_end)
        if text[at : at + 1] != ":":
            return
        at = _after(text, at + 1)
        end = _end(text, at)
        if end is None:
            return
        if key == "Value":
            yield at, end
        at = _after(text, end)
        if text[at : at + 1] == ",":
            at = _after(text, at + 1)


def _after(text: str, at: int) -> int:
    """Where the white space ends that begins there."""
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _end(text: str, at: int) -> int | None:
    """Where the value ends that begins there; None: it is none, or cut, or too deep."""
    try:
        _, end = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None
    # 44 at the very end may have been 440
    return end if end < len(text) else None


def _decoded(word: str) -> str:
    try:
        told: Any = _DECODER.decode(word)
    except (ValueError, RecursionError):
        return ""
    return told if isinstance(told, str) else ""


def _read(written: str) -> str | None:
    try:
        return canonical_id(orjson.loads(written))
    except (orjson.JSONDecodeError, ReadError, UnicodeEncodeError):
        return None
