"""Ids of holes and messages: which life of the broker, and which one of it.

They grow from life to life, so their order is the order of arrival, and none is ever given twice:
what a worker says late of a former life's hole can't be taken for another one.
"""

from __future__ import annotations

COUNT_BITS = 32
_COUNT_MASK = (1 << COUNT_BITS) - 1
_MAX_LIFE = (1 << 63 - COUNT_BITS) - 1  # ids are SQLite's integers
_MAX_CHARS = 24
FIRST_LIFE_BITS = 14  # a new journal begins at a random life: it must not repeat a lost one's ids


def first_id(life: int) -> int:
    """The id below all ids of a life."""
    return life << COUNT_BITS


def told(number: int) -> str:
    """An id as people see it: life-count."""
    return f"{number >> COUNT_BITS}-{number & _COUNT_MASK}"


def asked(text: str) -> int:
    """The id that people mean.

    Raises:
        ValueError: it is of no such form.
    """
    life, dash, count = text.partition("-")
    is_number = dash and life.isdecimal() and count.isdecimal() and len(text) <= _MAX_CHARS
    if not (is_number and int(life) <= _MAX_LIFE and int(count) <= _COUNT_MASK):
        raise ValueError(f"{text!r} is no hole id: they look like 8123-42")
    return first_id(int(life)) + int(count)
