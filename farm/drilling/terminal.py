"""A hole as text for a terminal: what `farm.drilling.plotting` draws, without the zooms.

Owns the layout by columns; plotext, an extra, draws the curves between its frame.
"""

from __future__ import annotations

import importlib
import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from farm.drilling.picture import (
    Answer,
    By,
    Course,
    Keypoint,
    StepSpan,
    captions,
    current_limits,
    keypoints,
    references,
)
from farm.drilling.plotting import require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from farm.drilling.hole import Hole

MIN_WIDTH: Final = 50
MIN_HEIGHT: Final = 8

_TICK_CHARS: Final = 5  # of a current, as "-0.25": fixes where the curves begin
_TORQUE: Final = "cyan+"
_THRUST: Final = "orange"
_KEYPOINT: Final = "green+"
_REFERENCE: Final = "magenta+"
_RULE: Final = "gray"
_UNITS: Final[dict[By, str]] = {"position": "mm", "time": "s"}
_MARKS: Final = (("│", "keypoint"), ("┊", "tip"), ("║", "reference"))


class _Columns:
    """Where the axis lies on the screen."""

    def __init__(self, low: float, high: float, width: int) -> None:
        self.low, self.high = low, high
        self.left = _TICK_CHARS + 1  # and the frame
        self.count = width - 2 * self.left

    @property
    def width(self) -> float:
        """Of one column, on the axis."""
        return (self.high - self.low) / (self.count - 1)

    def of(self, value: float) -> int:
        """The column that a place on the axis falls into, from the screen's left."""
        share = (value - self.low) / (self.high - self.low)
        return self.left + min(max(round(share * (self.count - 1)), 0), self.count - 1)


def hole_text(
    hole: Hole, answer: Answer, truth: Sequence[float] | None = None, *, width: int, height: int,
    colour: bool = False, by: By = "position",
) -> str:  # fmt: skip
    """Draw a hole as lines of text.

    Args:
        hole: its samples.
        answer: of a depth model.
        truth: reference keypoints in mm, entry, transition, exit; NaN where there is none.
        width: of every line in columns, at most; at least MIN_WIDTH is taken.
        height: lines, at most; at least MIN_HEIGHT are taken for the curves.
        colour: whether the terminal shows colours.
        by: what to draw over.

    Raises:
        FarmError: plotext is not installed.
    """
    require("plotext")
    width = max(width, MIN_WIDTH)
    course = Course(hole, by)
    low, high = float(course.values.min()), float(course.values.max())
    columns = _Columns(low, max(high, low + 1e-3), width)
    found = keypoints(answer, truth)
    above = _labels(
        [(words, columns.of(course.at(at))) for _, words, at in captions(answer, truth)], width
    )
    below = [_strip(columns, course.spans(hole), width), _legend(found, truth, width)]
    rows = max(height - len(above) - len(below), MIN_HEIGHT)
    picture = _curves(
        hole, course, columns, size=(width, rows), found=found, known=references(truth)
    )
    return "\n".join([*above, picture.string(colorless=not colour).rstrip("\n"), *below])


def _curves(
    hole: Hole, course: Course, columns: _Columns, *, size: tuple[int, int],
    found: Sequence[Keypoint], known: Sequence[tuple[str, float]],
) -> Any:  # fmt: skip
    """The frame with all that is in it, as a matrix of plotext."""
    # Through importlib, since plotext has no types and need not be there.
    plotext = importlib.import_module("plotext")
    figure = plotext.figure
    figure.clear()
    plotext.terminal.limit(width=False, height=False)  # to whatever terminal there is
    figure.plot_size(*size)
    figure.theme("simple")
    figure.axes(active=False, axis="x", side="upper")
    figure.ruler("x", "lower").lim(columns.low, columns.high)
    _set_ticks(
        figure.ruler("x", "lower"), columns.low, columns.high, size[0] // 12, unit=_UNITS[course.by]
    )
    limits = current_limits((hole.torque_a, hole.thrust_a), headroom=0.05)
    for side, (low, high) in zip(("left", "right"), limits, strict=True):
        figure.ruler("y", side).lim(low, high)
        _set_ticks(figure.ruler("y", side), low, high, size[1] // 4, side=side)
    _draw_keypoints(plotext, course, columns, found=found, known=known, limits=limits[0])
    at = course.values.tolist()
    for values, symbol, colour, side in (
        (hole.thrust_a, "·", _THRUST, "right"), (hole.torque_a, "braille", _TORQUE, "left"),
    ):  # fmt: skip
        marker = plotext.marker(symbol, pixel=colour)
        signal = figure.signal(at, values.tolist(), marker=marker, yside=side)
        figure.draw(signal.lines())
    return figure.build()


def _draw_keypoints(
    plotext: Any, course: Course, columns: _Columns, *, found: Sequence[Keypoint],
    known: Sequence[tuple[str, float]], limits: tuple[float, float],
) -> None:  # fmt: skip
    """The lines; what falls into the column of a keypoint that is there already is left out."""
    figure = plotext.figure
    taken = {columns.of(course.at(k.at_mm)) for k in found}
    tips = [k.tip_mm for k in found if k.tip_mm is not None]
    for places, style, colour in (
        (tips, "dotted", _RULE), ([at for _, at in known], "double", _REFERENCE),
    ):  # fmt: skip
        for at_mm in places:
            at = course.at(at_mm)
            if columns.of(at) not in taken:
                _draw_line(plotext, at, limits, style=style, colour=colour)
    for each in found:
        _draw_line(plotext, course.at(each.at_mm), limits, style="default", colour=_KEYPOINT)
        sigma = each.sigma_mm or 0.0
        band = [course.at(each.at_mm - sigma), course.at(each.at_mm + sigma)]
        if band[1] - band[0] >= 2 * columns.width:  # else the line covers it
            marker = plotext.marker("░", pixel=_RULE)
            figure.draw(figure.rectangle(band, limits, marker=marker, lines=False))


def _draw_line(
    plotext: Any, at: float, limits: tuple[float, float], *, style: str, colour: str
) -> None:
    # Not figure.line, which paints the canvas white behind it, on dark terminals too.
    marker = plotext.line(orientation=1, pixel=plotext.pixel(colour), style=style)
    plotext.figure.draw(plotext.figure.segment((at, at), limits, marker=marker))


def _labels(labels: Sequence[tuple[str, int]], width: int) -> list[str]:
    """Words above their columns, on as few rows as they need."""
    rows: list[str] = []
    for words, column in labels:
        start = min(max(column - len(words) // 2, 0), max(width - len(words), 0))
        row = next((i for i, taken in enumerate(rows) if len(taken) + 2 <= start), len(rows))
        if row == len(rows):
            rows.append("")
        rows[row] = (rows[row].ljust(start) + words)[:width]
    return rows


def _strip(columns: _Columns, spans: Sequence[StepSpan], width: int) -> str:
    """The steps as one row of text, every other one shaded."""
    row = [" "] * width
    for place, span in enumerate(spans):
        first, end = columns.of(span.low), columns.of(span.high)
        room = end - first + (place == len(spans) - 1)  # the next one begins where this one ends
        row[first : first + room] = ("░" if place % 2 == 0 else " ") * room
        full, number = f"{span.number} {span.stopped}".rstrip(), str(span.number)
        fitting = next(
            (w for w in (f" {full} ", full, f" {number} ", number) if len(w) <= room), ""
        )
        start = first + (room - len(fitting)) // 2
        row[start : start + len(fitting)] = fitting
    named = "step".ljust(columns.left)
    return (named + "".join(row[columns.left :])).rstrip()


def _legend(found: Sequence[Keypoint], truth: Sequence[float] | None, width: int) -> str:
    """What the lines are, as far as they are there."""
    there = (bool(found), any(k.tip_mm is not None for k in found), bool(references(truth)))
    marks = [
        f"{mark} {name}" for (mark, name), is_there in zip(_MARKS, there, strict=True) if is_there
    ]
    return "  ".join(["⣿ torque A (left)", "· thrust A (right)", *marks])[:width]


def _set_ticks(
    ruler: Any, low: float, high: float, count: int, *, side: str = "", unit: str = ""
) -> None:
    """Round numbers; plotext itself would divide the axis evenly, into odd ones."""
    step = _round_step((high - low) / max(count, 2))
    places = np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step
    decimals = max(0, -math.floor(math.log10(step)))
    labels = [f"{place:.{decimals}f}" for place in places + 0.0]
    if side:
        align = str.rjust if side == "left" else str.ljust
        labels = [align(label[:_TICK_CHARS], _TICK_CHARS) for label in labels]
    elif labels:
        labels[-1] += f" {unit}"
    ruler.ticks(places.tolist(), labels=labels)


def _round_step(least: float) -> float:
    """The least of 1, 2, 5, 10 … that is not below."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)
