"""What an evaluation found, drawn: errors, calibration, and how real the simulated holes look.

Owns the pages of `farm evaluate`; one hole alone is drawn by `farm.drilling.plotting`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from farm.training.evaluate import ALL, HIGH_QUALITY, QUANTITIES, Verdict
from farm.training.programs import FAMILIES
from farm.training.recorded import KEYPOINTS
from farm.training.statistics import STATISTICS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from farm.training.recorded import LabelledHole

_LEAST_MM, _MOST_MM = 0.003, 30.0
_SMALLEST_SIGMA_MM = 0.005
_LEAST_ERROR_MM = 1e-3  # drawn for all that are smaller: a logarithm has no zero
_GRADES = 25  # nominal coverages at which the calibration is drawn
_BANDS = 8  # of equally many keypoints by sigma


def error_page(verdicts: Mapping[str, Sequence[Verdict]]) -> Figure:
    """The distribution of absolute errors: a column for each quantity, a row for each family.

    Args:
        verdicts: of each model by its name, on the same holes.
    """
    first = next(iter(verdicts.values()))
    families = [ALL, *dict.fromkeys(v.hole.family for v in first)]
    figure = _figure(3.2 * len(QUANTITIES), 1.7 * len(families))
    axes = figure.subplots(len(families), len(QUANTITIES), squeeze=False, sharex=True, sharey=True)
    for row, family in zip(axes, families, strict=True):
        for column, (axis, quantity) in enumerate(zip(row, QUANTITIES, strict=True)):
            for name, found in verdicts.items():
                chosen = [v for v in found if family in (ALL, v.hole.family)]
                _draw_errors(axis, name, np.array([v.error_mm[column] for v in chosen]))
            axis.set_title(f"{family}: {quantity}", fontsize=8)
            axis.set_xlim(_LEAST_MM, _MOST_MM)
            axis.set_ylim(0, 1.02)
            axis.grid(visible=True, alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("absolute error, mm")
    axes[0][0].legend(fontsize=7)
    axes[0][0].set_ylabel("share of holes")
    return figure


def _draw_errors(axis: Axes, name: str, errors: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    sizes = np.sort(np.abs(errors[np.isfinite(errors)]))
    if sizes.size:
        share = np.arange(1, sizes.size + 1) / sizes.size
        axis.semilogx(np.maximum(sizes, _LEAST_MM), share, label=name, linewidth=1.2)


def calibration_page(simulated: Sequence[Verdict], recorded: Sequence[Verdict] = ()) -> Figure:
    """Whether sigma is true: how often the truth lies within it, and error against sigma.

    Coverage and quality are of the simulated holes, or of the recorded ones where there are none.
    """
    figure = _figure(12, 4.2)
    left, middle, right = figure.subplots(1, 3)
    _draw_coverage(left, simulated or recorded)
    _draw_sigma(middle, simulated, recorded)
    _draw_quality(right, simulated or recorded)
    return figure


def _draw_coverage(axis: Axes, verdicts: Sequence[Verdict]) -> None:
    nominal = np.linspace(0.04, 0.98, _GRADES)
    # Of a normal distribution; the inverse by interpolation, exact to a thousandth.
    z = np.linspace(0, 3, 600)
    density = np.exp(-0.5 * z**2) * np.sqrt(2 / np.pi)
    inside = np.concatenate(([0.0], np.cumsum((density[1:] + density[:-1]) / 2 * z[1])))
    widths = np.interp(nominal, inside, z)
    for column, keypoint in enumerate(KEYPOINTS):
        scaled = _scaled(verdicts, column)
        if scaled.size:
            axis.plot(nominal, [np.mean(scaled <= w) for w in widths], label=keypoint)
    axis.plot((0, 1), (0, 1), "k:", linewidth=0.8)
    axis.set(xlabel="interval's nominal share", ylabel="share of errors within", title="coverage")
    _add_legend(axis)


def _draw_sigma(axis: Axes, simulated: Sequence[Verdict], recorded: Sequence[Verdict]) -> None:
    for column, keypoint in enumerate(KEYPOINTS):
        sigma, error = _pairs(simulated, column)
        if sigma.size >= _BANDS * 5:
            bands = np.array_split(np.argsort(sigma), _BANDS)
            axis.loglog(
                [np.median(sigma[b]) for b in bands],
                [np.quantile(error[b], 0.68) for b in bands],
                "o-", markersize=3, color=f"C{column}", label=f"{keypoint}, simulated",
            )  # fmt: skip
        sigma, error = _pairs(recorded, column)
        if sigma.size:
            axis.loglog(sigma, np.maximum(error, _LEAST_ERROR_MM), "x", color=f"C{column}",
                        markersize=5, label=f"{keypoint}, recorded")  # fmt: skip
    limits = (_SMALLEST_SIGMA_MM, 1.0)
    axis.plot(limits, limits, "k:", linewidth=0.8)
    axis.set(xlabel="sigma, mm", ylabel="68 % of errors below, mm (x: recorded holes)",
             title="error against sigma")  # fmt: skip
    _add_legend(axis)


def _add_legend(axis: Axes) -> None:
    if axis.get_legend_handles_labels()[0]:  # too few holes, or no sigma, make no curve
        axis.legend(fontsize=8)


def _draw_quality(axis: Axes, verdicts: Sequence[Verdict]) -> None:
    answered = [v for v in verdicts if np.isfinite(v.quality)]
    right = [v.quality for v in answered if not v.is_wrong]
    wrong = [v.quality for v in answered if v.is_wrong]
    bins = np.linspace(0, 1, 21).tolist()
    axis.hist([right, wrong], bins, stacked=True, label=["right", "wrong"], color=["C0", "C3"])
    axis.axvline(HIGH_QUALITY, color="k", linestyle=":", linewidth=0.8)
    if answered:  # a model may tell no quality
        axis.set_yscale("log")
    axis.set(xlabel="quality", ylabel="answers", title="quality of right and wrong answers")
    axis.legend(fontsize=8)


def realism_page(
    real: Mapping[str, Mapping[str, list[float]]],
    simulated: Mapping[str, Mapping[str, list[float]]],
) -> Figure:
    """Each statistic of each real family (points) in the spread of its simulated one (boxes)."""
    columns = 4
    rows = -(-len(STATISTICS) // columns)
    figure = _figure(4 * columns, 2.3 * rows)
    families = [family for family in simulated if family in real]
    grid = list(figure.subplots(rows, columns).flat)
    for empty in grid[len(STATISTICS) :]:
        empty.set_axis_off()
    for axis, name in zip(grid, STATISTICS, strict=False):
        boxes = [simulated[family].get(name, []) for family in families]
        axis.boxplot(boxes, whis=(1, 99), showfliers=False, widths=0.6)
        for at, family in enumerate(families, start=1):
            values = real[family].get(name, [])
            axis.plot([at] * len(values), values, "rx", markersize=5)
        axis.set_xticks(range(1, len(families) + 1), families, fontsize=7, rotation=20)
        axis.set_title(name, fontsize=9)
        axis.grid(visible=True, axis="y", alpha=0.3)
    figure.suptitle("boxes: simulated (whiskers 1-99 %); crosses: recorded holes", fontsize=10)
    return figure


def under_simulated_names(holes: Sequence[LabelledHole]) -> list[LabelledHole]:
    """Recorded holes under the name of the simulated family that their program belongs to.

    `V1-V5` takes in V1, V2 and so on; a program of no family keeps its name.
    """
    return [replace(hole, family=_family_of(hole.family)) for hole in holes]


def _family_of(program: str) -> str:
    for family in FAMILIES:
        low, dash, high = family.partition("-")
        numbers = (low[1:], program[1:], high[1:])
        if dash and program[:1] == low[:1] and all(n.isdecimal() for n in numbers):
            first, number, last = map(int, numbers)
            if first <= number <= last:
                return family
    return program


def worst_page(verdicts: Sequence[Verdict], count: int) -> Figure:
    """The holes that were answered worst, drawn one below the other: the farthest off first."""
    from farm.drilling.plotting import draw_hole  # noqa: PLC0415 - matplotlib is an extra

    chosen = sorted(verdicts, key=_badness, reverse=True)[:count]
    figure = _figure(13, 3.4 * max(1, len(chosen)))
    for axis, verdict in zip(
        figure.subplots(max(1, len(chosen)), 1, squeeze=False)[:, 0], chosen, strict=False
    ):
        draw_hole(axis, verdict.hole.hole, verdict.answer, truth=verdict.hole.keypoints_mm)
        axis.set_title(f"{verdict.hole.name} ({verdict.hole.family})", fontsize=9, loc="left")
    return figure


def _badness(verdict: Verdict) -> float:
    """Confident mistakes first, then by the largest error."""
    error = float(np.nanmax(np.abs(verdict.error_mm[:3]), initial=0.0))
    confident = verdict.is_wrong and not verdict.quality < HIGH_QUALITY
    return error + 1000.0 * confident + 100.0 * verdict.is_refused


def _scaled(verdicts: Sequence[Verdict], column: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    sigma, error = _pairs(verdicts, column)
    return np.asarray(error / sigma)


def _pairs(
    verdicts: Sequence[Verdict], column: int
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.float64]]]:
    """Sigma and absolute error of a keypoint, where both are known."""
    sigma = np.array([v.sigma_mm[column] for v in verdicts])
    error = np.abs(np.array([v.error_mm[column] for v in verdicts]))
    known = np.isfinite(sigma) & np.isfinite(error)
    return sigma[known], error[known]


def _figure(width: float, height: float) -> Figure:
    """A figure that belongs to no window and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure as New  # noqa: PLC0415

    figure = New(figsize=(width, height), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    return figure
