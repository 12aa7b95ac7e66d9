"""Ids of holes: as people see them, and never the same in two lives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.journal.ids import COUNT_BITS, FIRST_LIFE_BITS, asked, first_id, told

LIVES = st.integers(0, 2**31 - 1)
COUNTS = st.integers(0, 2**COUNT_BITS - 1)


@given(LIVES, COUNTS)
def test_what_is_told_can_be_asked_for(life: int, count: int) -> None:
    number = first_id(life) + count
    assert told(number) == f"{life}-{count}"
    assert asked(told(number)) == number


@given(LIVES, COUNTS)
def test_the_ids_of_a_life_lie_between_those_of_its_neighbours(life: int, count: int) -> None:
    # prevents: an id of a former life given again, and holes out of their order
    assert first_id(life) <= first_id(life) + count < first_id(life + 1)


def test_every_id_fits_the_database() -> None:
    # prevents: a journal that fails after many restarts; SQLite's integers have 63 bits
    many_lives = 2**FIRST_LIFE_BITS + 1_000_000_000
    assert first_id(many_lives) < 2**63


# prevents, in the last two: a broker process ended by an operator's slip of the finger
@pytest.mark.parametrize(
    "text",
    [
        "",
        "42",
        "-42",
        "8123-",
        "8123--42",
        "8123-4294967296",
        "a-b",
        "8123-42 ",
        "²-1",
        "3000000000-1",
        "9" * 5000 + "-1",
    ],
)
def test_what_is_no_id_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="8123-42"):
        asked(text)
