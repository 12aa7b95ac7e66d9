"""Lines, tables, curves and numbers: what a picture is made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from farm.telemetry import units
from farm.telemetry.lines import (
    ASCII,
    UNICODE,
    Column,
    Span,
    beside,
    cut,
    cut_start,
    fit,
    line,
    padded,
    sparkline,
    table,
    text_of,
    width_of,
    wrap,
)
from farm.telemetry.paint import paint

TEXTS = st.text(alphabet=st.sampled_from("ab …漢字é-"), max_size=60)


@given(st.lists(TEXTS, max_size=5), st.integers(1, 50))
def test_a_line_fits_whatever_is_in_it(texts: list[str], cells: int) -> None:
    """A line of wide characters that takes two lines of the terminal."""
    made = line(*(Span(text, "bold") for text in texts))
    for glyphs in (UNICODE, ASCII):
        assert width_of(fit(made, cells, glyphs)) <= cells
    if width_of(made) <= cells:
        assert fit(made, cells, UNICODE) == made
        assert width_of(padded(made, cells)) == cells


@given(TEXTS, st.integers(0, 40))
def test_a_cut_is_seen_and_keeps_the_right_end(text: str, cells: int) -> None:
    head, tail = cut(text, cells, UNICODE), cut_start(text, cells, UNICODE)
    for shown in (head, tail):
        assert cell_len(shown) <= cells
    if cell_len(text) <= cells:
        assert head == tail == text
    elif cells:
        assert head.endswith("…")
        assert tail.startswith("…")
        assert text.endswith(tail[1:])


@given(st.text(alphabet="ab ", max_size=120), st.integers(10, 60))
def test_a_wrapped_text_fits_and_loses_no_word(text: str, cells: int) -> None:
    """A cause whose last word, the one that matters, is cut."""
    pieces = wrap(text, cells)
    assert all(cell_len(piece) <= cells for piece in pieces)
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")


def test_columns_are_left_out_by_their_priority_and_the_flexible_one_takes_the_rest() -> None:
    columns = [
        Column("name", 6, is_flexible=True),
        Column("count", 6, is_right=True, priority=2),
        Column("host", 8, priority=1),
    ]
    rows = [["a very long name", "7", "here"]]
    assert [text_of(each) for each in table(columns, rows, 30, UNICODE)] == [
        "name           count  host    ",
        "a very long…       7  here    ",
    ]
    assert [text_of(each) for each in table(columns, rows, 15, UNICODE)] == [
        "name      count",
        "a very…       7",
    ]
    assert [text_of(each) for each in table(columns, rows, 7, ASCII)] == ["name   ", "a very~"]


def test_the_sorted_column_is_marked_and_stays_in_its_place() -> None:
    columns = [Column("name", 6), Column("count", 6, is_right=True)]
    for rising, mark in ((False, "▼"), (True, "▲")):
        [head] = table(columns, [], 20, UNICODE, sorted_by=1, is_rising=rising)
        assert text_of(head) == f"name    count{mark}"


def test_two_blocks_stand_beside_each_other() -> None:
    left, right = [line("one"), line("a long line")], [line("x"), line("y"), line("z")]
    made = [text_of(each).rstrip() for each in beside(left, right, 8, UNICODE)]
    assert made == ["one     x", "a lon…  y", "        z"]


@pytest.mark.parametrize(
    ("values", "cells", "top", "curve"),
    [
        ([], 4, 0.0, "    "),
        ([0, 0], 4, 0.0, "  ▁▁"),
        ([0, 7], 4, 0.0, "  ▁█"),
        ([0, 7], 4, 14.0, "  ▁▅"),
        ([9, 9, 1, 2, 3, 4], 4, 4.0, "▃▅▆█"),
        ([1.0], 0, 0.0, ""),
    ],
)
def test_a_curve_shows_the_newest_at_its_right(
    values: list[float], cells: int, top: float, curve: str
) -> None:
    assert sparkline(values, cells, UNICODE, top=top) == curve
    assert sparkline(values, cells, ASCII, top=top).isascii()


@pytest.mark.parametrize(
    ("has_styles", "has_colours", "text"),
    [
        (True, True, "\x1b[1;31mred\x1b[0m plain"),
        (True, False, "\x1b[1mred\x1b[0m plain"),
        (False, False, "red plain"),
    ],
)
def test_styles_become_escapes_only_where_they_may(
    *, has_styles: bool, has_colours: bool, text: str
) -> None:
    made = line(Span("red", "bold red"), " plain")
    assert paint(made, has_styles=has_styles, has_colours=has_colours) == text


@pytest.mark.parametrize(
    ("show", "most", "told"),
    [
        (units.age, 6, {None: "-", 0.04: "0.0 s", 9.94: "9.9 s", 9.96: "10 s", 119.0: "119 s",
                        120.0: "2 min", 5940.0: "99 min", 7199.0: "2.0 h", 172_800.0: "2 d"}),
        (units.latency, 6, {None: "-", 0.00042: "0.4 ms", 0.083: "83 ms", 0.9994: "999 ms",
                            1.2: "1.2 s", 125.0: "2 min"}),
        (units.rate, 5, {0.0: "0.0", 12.34: "12.3", 999.94: "999.9", 1234.0: "1234",
                         123_456.0: "123k"}),
        (units.number, 7, {0: "0", 9_999_999: "9999999", 10_000_000: "10.0M",
                           9_999_400_000: "9999.4M", 12_345_678_901: "12.3G",
                           10**14: "100T"}),
        (units.size, 6, {0: "0 B", 999: "999 B", 52_000_000: "52 MB", 1_500_000_000: "1.5 GB"}),
    ],
)  # fmt: skip
def test_a_number_never_needs_more_room_than_its_column(show, most, told) -> None:  # type: ignore[no-untyped-def]
    """A column that is one character wider once a counter has reached a million."""
    for value, text in told.items():
        assert show(value) == text
    assert all(len(text) <= most for text in told.values())


def test_one_is_not_many() -> None:
    assert units.many(1, "hole waits", "holes wait") == "1 hole waits"
    assert units.many(2, "hole") == "2 holes"
