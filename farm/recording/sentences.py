"""Ids inside the sentences of a farm: found, and changed. Pure.

A farm names a hole's id in a sentence behind the words "result id", and nowhere else. What a model
of the user's says may name it anywhere.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# An id may hold spaces, so that it ends where the farm's own words go on.
_BEHIND: Final = re.compile(r"(?<=\bresult id )(.+?)(?= came after its hole |$)")
# Shorter ones are also step numbers, stop codes, millimetres.
_TELLING_CHARS: Final = 5


def with_ids(sentence: str, change: Callable[[str], str]) -> str:
    """A sentence with other ids behind the words "result id".

    Args:
        sentence: of a farm.
        change: gives the id that is to stand there.
    """
    return _BEHIND.sub(lambda match: change(match[1]), sentence)


def with_words(sentence: str, names: dict[str, str]) -> str:
    """A sentence with other words for some, wherever they stand as words of their own."""
    if not (known := sorted(filter(None, names), key=len, reverse=True)):
        return sentence
    found = "|".join(map(re.escape, known))
    return re.sub(rf"(?<![\w.])(?:{found})(?!\w|\.\d)", lambda match: names[match[0]], sentence)


def is_telling(result_id: str) -> bool:
    """Whether an id is long enough to be known again anywhere in a sentence."""
    return len(result_id) >= _TELLING_CHARS
