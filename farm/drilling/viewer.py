"""What the page shows of a hole: torque and thrust with the steps, the keypoints and the layers.

Owns the choice of samples and the torque's level; what a hole has to show, in numbers and words, is
`farm.drilling.picture`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from farm.drilling.opcua import RESULT, TRACE
from farm.drilling.picture import Course, Keypoint, keypoints, stop_words
from farm.models.model import Insufficient
from farm.viewer import Column, Mark, Picture, Series, Stretch, View

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from farm.drilling.hole import FloatArray, Hole
    from farm.drilling.opcua import OpcUaReader

    Indices = NDArray[np.intp]

MAX_BINS: Final = 1500
"""A longer trace is drawn by the least and the greatest value of so many pieces of it."""

COMPOSITE, METAL, SINGLE = "composite", "metal", "single layer"
_LAYERS: Final = {2: (SINGLE,), 3: (COMPOSITE, METAL)}
_QUALITY: Final = "The model's own probability that every keypoint is within 0.5 mm"
_TORQUE: Final = "Its median while the drill advances there"
_DECIMALS: Final = 3  # as the machines give mm, A and s


class HoleViewer:
    """The drilling traffic's `farm.viewer.Viewer`.

    Args:
        reader: of the units' messages.
    """

    columns: Sequence[Column] = (
        Column("depth", "Depth", "mm", note="From entry to exit"),
        Column("composite", "CFRP", "mm"),
        Column("metal", "Metal", "mm"),
        Column("quality", "Quality", "", 3, _QUALITY),
    )
    levels: Sequence[Column] = (
        Column("torque_composite", "torque in composite", "A", 3, _TORQUE),
        Column("torque_metal", "torque in metal", "A", 3, _TORQUE),
        Column("torque_single", "torque in single layer", "A", 3, _TORQUE),
    )

    def __init__(self, reader: OpcUaReader) -> None:
        self._reader = reader

    def figures(self, value: Any) -> Mapping[str, float]:
        """Depths in mm and the quality of a depth model's answer, as far as it has them."""
        if not isinstance(value, Mapping):
            return {}
        at_mm = [float(at) for at in value.get("keypoints_mm", ())]
        found: dict[str, float] = {}
        if len(at_mm) >= 2:
            found["depth"] = at_mm[-1] - at_mm[0]
        if len(at_mm) == 3:
            found["composite"], found["metal"] = at_mm[1] - at_mm[0], at_mm[2] - at_mm[1]
        if value.get("quality") is not None:
            found["quality"] = float(value["quality"])
        return found

    def picture(self, parts: Mapping[str, bytes], value: Any) -> Picture:
        """Torque and thrust over position, and over time.

        Raises:
            ReadError: the messages can't be read.
        """
        hole = self._reader.read_hole(parts)
        found = keypoints(_answer(value))
        kept = _kept(hole)
        courses = (Course(hole), Course(hole, "time"))
        return Picture(
            views=[_view(course, hole, found, kept) for course in courses],
            series=[
                Series("torque", "A", _rounded(hole.torque_a[kept])),
                Series("thrust", "A", _rounded(hole.thrust_a[kept])),
            ],
            fields=_fields(hole, found),
        )

    def measure(self, parts: Mapping[str, bytes], value: Any) -> Mapping[str, float]:
        """The torque's level in each layer: its median while the drill advances there, in A.

        Raises:
            ReadError: the messages can't be read.
        """
        found = keypoints(_answer(value))
        names = _LAYERS.get(len(found))
        if names is None:
            return {}
        hole = self._reader.read_hole({kind: parts[kind] for kind in (RESULT, TRACE)})
        torque, at = _advancing(hole)
        levels = {}
        for name, (low, high) in zip(names, pairwise(k.at_mm for k in found), strict=True):
            inside = torque[(at >= low) & (at <= high)]
            if len(inside):
                key = "torque_single" if name == SINGLE else f"torque_{name}"
                levels[key] = float(np.median(inside))
        return levels


def _answer(value: Any) -> Insufficient | Mapping[str, Any]:
    """An answer as it was kept."""
    is_answer = isinstance(value, Mapping) and "keypoints_mm" in value
    return value if is_answer else Insufficient("")


def _advancing(hole: Hole) -> tuple[FloatArray, FloatArray]:
    """Torque and |position| where the tip is deeper than ever before: there it cuts."""
    reached = np.maximum.accumulate(hole.position_mm)
    is_new = np.concatenate(([True], hole.position_mm[1:] > reached[:-1]))
    return hole.torque_a[is_new], hole.position_mm[is_new]


def _kept(hole: Hole) -> Indices:
    """The samples to draw: all of them, or the extremes of each piece."""
    count = len(hole)
    if count <= 4 * MAX_BINS:
        return np.arange(count)
    edges = np.linspace(0, count, MAX_BINS + 1).astype(np.intp)
    chosen = [0, count - 1]
    for low, high in pairwise(edges):
        for signal in (hole.torque_a[low:high], hole.thrust_a[low:high]):
            chosen += [int(low + signal.argmin()), int(low + signal.argmax())]
    return np.unique(np.array(chosen, dtype=np.intp))


def _view(course: Course, hole: Hole, found: list[Keypoint], kept: Indices) -> View:
    is_by_position = course.by == "position"
    # Where the drill goes back, as at each step, the axis waits: so it never falls, and no sample
    # is left out.
    at = np.maximum.accumulate(course.values)[kept]
    names = _LAYERS.get(len(found), ())
    edges = [course.at(k.at_mm) for k in found]
    return View(
        name="position" if is_by_position else "time",
        unit="mm" if is_by_position else "s",
        at=_rounded(at),
        marks=[_mark(course, k) for k in found],
        layers=[Stretch(n, *edge) for n, edge in zip(names, pairwise(edges), strict=bool(names))],
        steps=[
            Stretch(f"step {span.number}", span.low, span.high, span.stopped)
            for span in course.spans(hole)
        ],
    )


def _mark(course: Course, keypoint: Keypoint) -> Mark:
    at, sigma = keypoint.at_mm, keypoint.sigma_mm
    if sigma is None:
        return Mark(keypoint.name, course.at(at), keypoint.label)
    low, high = course.at(at - sigma), course.at(at + sigma)
    return Mark(keypoint.name, course.at(at), keypoint.label, low, high)


def _fields(hole: Hole, found: list[Keypoint]) -> list[tuple[str, str]]:
    duration_s = len(hole) / hole.sample_rate_hz
    rows = [(k.name, f"{k.label.removeprefix(f'{k.name} ')}" + _tip(k)) for k in found]
    rows.append(("samples", f"{len(hole)} at {hole.sample_rate_hz:g} Hz, {duration_s:.1f} s"))
    for step in hole.steps:
        words = stop_words(step.stop_code) or "no stop code"
        took = f", {step.duration_s:.2f} s" if step.duration_s == step.duration_s else ""
        rows.append((f"step {step.number}", f"{words}{took}"))
    return rows


def _tip(keypoint: Keypoint) -> str:
    return "" if keypoint.tip_mm is None else f", the tip at {keypoint.tip_mm:.2f} mm"


def _rounded(numbers: NDArray[Any]) -> list[float]:
    return [float(n) for n in np.round(numbers.astype(np.float64), _DECIMALS)]
