"""Numbers for people keep to their columns, whatever they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.telemetry.rows import TOOL_FIELDS
from farm.telemetry.units import age, latency, number, rate

SECONDS = st.floats(0, 8e8)  # twenty-five years


@given(SECONDS)
def test_an_age_has_six_characters_at_most(seconds: float) -> None:
    """Prevents: "105 min" in a column of six, cut as "105 m…"."""
    assert len(age(seconds)) <= 6
    assert len(latency(seconds)) <= 6


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, "-"), (0.0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (119.0, "119 s"),
        (120.0, "2 min"), (99.4 * 60, "99 min"), (100 * 60, "1.7 h"), (105 * 60, "1.8 h"),
        (9.9 * 3600, "9.9 h"), (9.97 * 3600, "10 h"), (47 * 3600, "47 h"), (48 * 3600, "2 d"),
    ],
)  # fmt: skip
def test_an_age_is_told_in_one_unit(seconds: float | None, told: str) -> None:
    """Prevents: a unit that says less than it could, or 0 of one."""
    assert age(seconds) == told


@given(st.integers(0, 10**12))
def test_counts_and_rates_keep_to_their_columns(count: int) -> None:
    """Prevents: a count of a busy year that is cut in the middle of its digits."""
    assert len(number(count)) <= 7
    assert len(rate(min(count, 9_999_499_999) / 1000)) <= 5  # ten million a second
    row = dict.fromkeys(("troubles", "dead", "unpaired", "rejected", "negative_runs"), count)
    for field in TOOL_FIELDS:
        if field.column.title in ("bad", "dead", "unpaired", "unread", "runs"):
            cell = field.show(row)
            assert not isinstance(cell, str)
            assert len(cell.text) <= field.column.cells, field.column.title
