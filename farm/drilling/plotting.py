"""A hole as an image: torque, thrust, the steps, and the keypoints with their uncertainty.

Owns the drawing with matplotlib, which is an extra and imported only here and only when drawn.
`draw_hole` draws into axes of the caller's, so that a report can have many holes on one page.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Final

from farm.drilling.picture import (
    AXIS_LABELS,
    Answer,
    By,
    Course,
    Keypoint,
    StepSpan,
    captions,
    current_limits,
    keypoints,
    outcome,
    references,
)
from farm.errors import FarmError
from farm.printable import printable_lines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from farm.drilling.hole import Hole

    Window = tuple[float, float] | None

NEEDS: Final = "drawing needs {}: pip install 'farm[plots]'"

_TORQUE: Final = "#1f4e79"
_THRUST: Final = "#d9822b"
_COLOURS: Final = {"entry": "#2e8b57", "transition": "#7b3fa0", "exit": "#c0392b"}
_OTHER: Final = "#555555"  # keypoints that a model of the user's own names otherwise
_SHADES: Final = ("#eef1f4", "#ffffff")
_HEADROOM: Final = 0.22  # above the curves, for the steps' words
_WORDS_SHARE: Final = 0.11  # of the axis's width, that a step needs for its words
_NUMBER_SHARE: Final = 0.02  # the same for its number alone
_DPI: Final = 110


def require(package: str) -> None:
    """Say clearly that a package of the `plots` extra is missing.

    Raises:
        FarmError: it is.
    """
    if importlib.util.find_spec(package) is None:
        raise FarmError(NEEDS.format(package))


def draw_hole(
    axes: Axes, hole: Hole, answer: Answer, truth: Sequence[float] | None = None, *,
    by: By = "position", window: Window = None,
) -> None:  # fmt: skip
    """Draw a hole into axes: torque on the left, thrust on the right.

    Args:
        axes: to draw into; a twin is made for the thrust.
        hole: its samples.
        answer: of a depth model.
        truth: reference keypoints in mm, entry, transition, exit; NaN where there is none.
        by: what to draw over.
        window: stretch of the axis to show, without labels; None for all of it, with them.
    """
    course = Course(hole, by)
    low, high = window or _whole(course)
    thrust = axes.twinx()
    axes.set_zorder(thrust.get_zorder() + 1)  # the torque, which is judged, lies on top
    axes.patch.set_visible(False)
    _draw_steps(thrust, course.spans(hole), low, high, worded=window is None)
    thrust.plot(course.values, hole.thrust_a, color=_THRUST, lw=0.9, alpha=0.8)
    axes.plot(course.values, hole.torque_a, color=_TORQUE, lw=1.0)
    shown = (course.values >= low) & (course.values <= high)
    signals = (hole.torque_a[shown], hole.thrust_a[shown])
    for each, limits in zip(
        (axes, thrust), current_limits(signals, headroom=_HEADROOM), strict=True
    ):
        each.set_ylim(*limits)
    axes.set_xlim(low, high)
    for found in keypoints(answer, truth):
        _draw_keypoint(axes, course, found, named=window is None)
    for name, at_mm in references(truth):
        axes.axvline(course.at(at_mm), color=_colour(name), lw=1.3, ls=(0, (4, 3)))
    _name_axes(axes, thrust, by)


def hole_figure(
    hole: Hole, answer: Answer, truth: Sequence[float] | None = None, *, title: str = "",
    by: By = "position",
) -> Figure:  # fmt: skip
    """A page for one hole: all of it on top, and a zoom around each keypoint below.

    Args:
        hole: its samples.
        answer: of a depth model.
        truth: reference keypoints as for `draw_hole`.
        title: above all: which hole, which model, and what it says; the latter alone when empty.
        by: what to draw over.

    Raises:
        FarmError: matplotlib is not installed.
    """
    require("matplotlib")
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and 0.3 s to import

    zooms = captions(answer, truth)
    figure = Figure(figsize=(12, 8.2 if zooms else 5.2), dpi=_DPI, layout="constrained")
    # as text: a $ in an id begins no formula, which might not be one
    figure.suptitle(printable_lines(title or outcome(answer)), fontsize=12, parse_math=False)
    rows = (
        figure.add_gridspec(2, 1, height_ratios=(1.45, 1)) if zooms else figure.add_gridspec(1, 1)
    )
    overview = figure.add_subplot(rows[0, 0])
    draw_hole(overview, hole, answer, truth, by=by)
    _add_legend(overview, answer, truth)
    course = Course(hole, by)
    if zooms:
        places = rows[1, 0].subgridspec(1, len(zooms))
        for column, (name, words, at_mm) in enumerate(zooms):
            axes = figure.add_subplot(places[0, column])
            draw_hole(axes, hole, answer, truth, by=by, window=course.window(at_mm))
            axes.set_title(words, fontsize=9, color=_colour(name))
    return figure


def write_png(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file.

    Raises:
        FarmError: it can't be written there.
    """
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise FarmError(f"can't write {path}: {error.strerror}: name another --out") from error


def _whole(course: Course) -> tuple[float, float]:
    low, high = float(course.values.min()), float(course.values.max())
    return (low, high) if high > low else (low, low + 1.0)


def _draw_steps(
    axes: Axes, spans: Sequence[StepSpan], low: float, high: float, *, worded: bool
) -> None:
    """Shade every other step, and name each that has room for it."""
    for place, span in enumerate(spans):
        axes.axvspan(span.low, span.high, color=_SHADES[place % 2], lw=0, zorder=-2)
        left, right = max(span.low, low), min(span.high, high)
        share = (right - left) / (high - low)
        if share < _NUMBER_SHARE:
            continue
        words = f"step {span.number}" if share > _WORDS_SHARE else str(span.number)
        if worded and share > _WORDS_SHARE:
            words += f"\n{span.stopped}"
        axes.text(
            (left + right) / 2, 0.985, words, transform=axes.get_xaxis_transform(),
            ha="center", va="top", fontsize=8, color="#5a6570", clip_on=True,
        )  # fmt: skip


def _draw_keypoint(axes: Axes, course: Course, found: Keypoint, *, named: bool) -> None:
    colour = _colour(found.name)
    at = course.at(found.at_mm)
    if found.sigma_mm is not None:
        edges = (found.at_mm - found.sigma_mm, found.at_mm + found.sigma_mm)
        axes.axvspan(*map(course.at, edges), color=colour, alpha=0.22, lw=0, zorder=-1)
    axes.axvline(at, color=colour, lw=1.5)
    if found.tip_mm is not None:
        axes.axvline(course.at(found.tip_mm), color=colour, lw=0.7, ls=":")
    if named:
        # On the side where the torque is low: before a rise, after the fall.
        aside, anchor = (4, "left") if found.name == "exit" else (-4, "right")
        axes.annotate(
            found.label, (at, 0.87), xycoords=axes.get_xaxis_transform(), xytext=(aside, 0),
            textcoords="offset points", rotation=90, ha=anchor, va="top", fontsize=9, color=colour,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.6, "pad": 0.5},
        )  # fmt: skip


def _name_axes(axes: Axes, thrust: Axes, by: By) -> None:
    axes.set_xlabel(AXIS_LABELS[by], fontsize=9)
    for each, name, colour in ((axes, "torque in A", _TORQUE), (thrust, "thrust in A", _THRUST)):
        each.set_ylabel(name, color=colour, fontsize=9)
        each.tick_params(axis="y", colors=colour)
        each.tick_params(labelsize=8)
        each.spines["top"].set_visible(False)


def _add_legend(axes: Axes, answer: Answer, truth: Sequence[float] | None) -> None:
    """Tell what the thin and the dashed lines are, where there are any."""
    from matplotlib.lines import Line2D  # noqa: PLC0415
    from matplotlib.patches import Patch  # noqa: PLC0415

    found = keypoints(answer)
    handles: list[Line2D | Patch] = []
    if found:
        handles.append(Line2D([], [], color=_OTHER, lw=1.5, label="keypoint: onset in torque"))
    if any(k.sigma_mm is not None for k in found):
        handles.append(Patch(color=_OTHER, alpha=0.22, lw=0, label="± 1 sd"))
    if any(k.tip_mm is not None for k in found):
        handles.append(Line2D([], [], color=_OTHER, lw=0.7, ls=":", label="the tip's, in thrust"))
    if references(truth):
        handles.append(Line2D([], [], color=_OTHER, lw=1.3, ls="--", label="reference"))
    if handles:
        axes.legend(
            handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False,
            fontsize=8, borderaxespad=0.2,
        )  # fmt: skip


def _colour(name: str) -> str:
    return _COLOURS.get(name, _OTHER)
