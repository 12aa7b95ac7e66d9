"""Styled text in lines: what every picture of a farm is made of, before it meets a terminal.

A line is a tuple of spans; widths are in terminal cells. Nothing here knows of colours or escapes.
Styles are words: bold, dim, reverse, red, green, yellow, cyan, and what these make together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len, set_cell_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Span(NamedTuple):
    """A text in one style."""

    text: str
    style: str = ""


Line = tuple[Span, ...]
BLANK: Line = ()


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The signs beyond ASCII, and what stands for them where the terminal has none."""

    bars: str  # of a curve, lowest first
    ellipsis: str
    falling: str  # sorted, highest first
    rising: str


UNICODE = Glyphs("▁▂▃▄▅▆▇█", "…", "▼", "▲")
ASCII = Glyphs("_.-=+*%#", "~", "<", ">")


def line(*parts: str | Span) -> Line:
    """A line of texts and spans; empty ones are left out."""
    spans = (part if isinstance(part, Span) else Span(part) for part in parts)
    return tuple(span for span in spans if span.text)


def text_of(made: Line) -> str:
    """The line without its styles."""
    return "".join(span.text for span in made)


def width_of(made: Line) -> int:
    """How many cells it takes."""
    return sum(cell_len(span.text) for span in made)


def cut(text: str, cells: int, glyphs: Glyphs) -> str:
    """A text of at most so many cells; that it was cut is seen."""
    if cell_len(text) <= cells:
        return text
    return set_cell_size(text, cells - 1).rstrip() + glyphs.ellipsis if cells > 0 else ""


def cut_start(text: str, cells: int, glyphs: Glyphs) -> str:
    """The same, and it is the end that is shown."""
    if cell_len(text) <= cells:
        return text
    while text and cell_len(text) > cells - 1:
        text = text[1:]
    return glyphs.ellipsis[:cells] + text


def fit(made: Line, cells: int, glyphs: Glyphs) -> Line:
    """A line of at most so many cells."""
    if width_of(made) <= cells:
        return made
    kept: list[Span] = []
    room = cells
    for span in made:
        taken = cell_len(span.text)
        if taken >= room:  # of a line that is too long, there is more behind it
            text = set_cell_size(span.text, max(room - 1, 0)) + glyphs.ellipsis[:room]
            return (*kept, Span(text, span.style))
        kept.append(span)
        room -= taken
    return tuple(kept)


def padded(made: Line, cells: int) -> Line:
    """A line of just so many cells, or more."""
    return (*made, Span(" " * max(0, cells - width_of(made))))


def wrap(text: str, cells: int, *, indent: int = 0) -> list[str]:
    """A text in lines of at most so many cells, further ones indented; long words are broken."""
    made: list[str] = []
    room, current = max(cells, 8), ""
    for word in text.split(" "):
        rest = word
        while rest:
            candidate = f"{current} {rest}" if current.strip() else current + rest
            if cell_len(candidate) <= room:
                current, rest = candidate, ""
                continue
            if current.strip():
                made.append(current)
            else:
                piece = set_cell_size(current + rest, room).rstrip()
                made.append(piece)
                rest = rest[len(piece) - len(current) :]
            current = " " * min(indent, room // 2)
    return [*made, current] if current.strip() else made


def beside(left: Sequence[Line], right: Sequence[Line], at: int, glyphs: Glyphs) -> list[Line]:
    """Two blocks, the right one beginning at a column."""
    made: list[Line] = []
    for number in range(max(len(left), len(right))):
        first = fit(left[number], at - 2, glyphs) if number < len(left) else BLANK
        second = right[number] if number < len(right) else BLANK
        gap = Span(" " * (at - width_of(first)))
        made.append((*first, gap, *second) if second else first)
    return made


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        title: above it.
        cells: its width; of one that is `flexible` the least.
        is_right: whether it is aligned there, as numbers are.
        priority: those of the lowest are left out first where there is no room; 0: never.
        style: of its cells.
        keeps_end: whether of what is too long the end is shown, as of tools' names.
    """

    title: str
    cells: int
    is_right: bool = False
    priority: int = 0
    is_flexible: bool = False
    style: str = ""
    keeps_end: bool = False


GAP = 2  # cells between columns


def fitting(columns: Sequence[Column], width: int) -> list[int]:
    """Which columns there is room for, by number: it depends on the width alone."""
    chosen = list(range(len(columns)))

    def needed() -> int:
        return sum(columns[n].cells for n in chosen) + GAP * (len(chosen) - 1)

    while needed() > width:
        droppable = [n for n in chosen if columns[n].priority]
        if not droppable:
            break
        chosen.remove(min(droppable, key=lambda n: columns[n].priority))
    return chosen


def table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[str | Span]],
    width: int,
    glyphs: Glyphs,
    *,
    sorted_by: int | None = None,
    is_rising: bool = False,
) -> list[Line]:
    """The heading and a line for each row; widths depend on `width` alone, never on the rows."""
    chosen = fitting(columns, width)
    cells = {n: columns[n].cells for n in chosen}
    spare = width - sum(cells.values()) - GAP * (len(chosen) - 1)
    flexible = [n for n in chosen if columns[n].is_flexible]
    for n in flexible:
        cells[n] += max(spare, 0) // len(flexible)
    mark = glyphs.rising if is_rising else glyphs.falling

    def titled(n: int) -> str:
        return columns[n].title + (mark if n == sorted_by else "")

    made = [_row([(n, Span(titled(n), "bold")) for n in chosen], columns, cells, glyphs)]
    for row in rows:
        spans = []
        for n in chosen:
            cell = row[n]
            spans.append((n, cell if isinstance(cell, Span) else Span(cell, columns[n].style)))
        made.append(_row(spans, columns, cells, glyphs))
    return [fit(each, width, glyphs) for each in made]


def _row(
    spans: Sequence[tuple[int, Span]],
    columns: Sequence[Column],
    cells: dict[int, int],
    glyphs: Glyphs,
) -> Line:
    made: list[Span] = []
    for place, (n, span) in enumerate(spans):
        cutting = cut_start if columns[n].keeps_end else cut
        text = cutting(span.text, cells[n], glyphs)
        padding = " " * (cells[n] - cell_len(text))
        if place:
            made.append(Span(" " * GAP))
        made.append(Span(padding + text if columns[n].is_right else text + padding, span.style))
    return tuple(made)


def sparkline(values: Sequence[float], cells: int, glyphs: Glyphs, *, top: float = 0.0) -> str:
    """The newest values as a curve, one a cell, right-aligned; `top` is what fills the cell."""
    shown = values[-cells:] if cells > 0 else ()
    highest = top or max(shown, default=0.0)
    last = len(glyphs.bars) - 1

    def bar(value: float) -> str:
        share = value / highest if highest > 0 else 0.0
        return glyphs.bars[min(last, max(0, round(share * last)))]

    return "".join(map(bar, shown)).rjust(max(cells, 0))
