"""What there is to see in a hole: its course, steps, keypoints and outcome, in numbers and words.

Owns what a picture of a hole says. `farm.drilling.plotting` draws it as an image,
`farm.drilling.terminal` as text.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from farm.models.model import Insufficient

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from farm.drilling.hole import FloatArray, Hole, Step

    Array = NDArray[np.float64]

Answer = Insufficient | Mapping[str, Any]
"""What a depth model says of a hole: see `farm.models.model.depth_answer`."""

By = Literal["position", "time"]
"""What a hole is drawn over: |position| in mm, or seconds."""

AXIS_LABELS: Final[Mapping[By, str]] = {"position": "position in mm", "time": "time in s"}
ZOOM_MM: Final = (-1.5, 2.5)
"""What is shown around a keypoint: a torque's ramp rises within 1 to 2.5 mm after it."""

MAX_SPANS: Final = 32
"""A program has up to 8 steps; more changes than this are broken numbers, and are not drawn."""

STOP_WORDS: Final[Mapping[int, str]] = {
    1: "torque maximum", 8: "thrust limit", 64: "stroke reached", 128: "stop button",
    512: "tool broken", 1024: "abort", 2048: "torque minimum", 8192: "stroke maximum",
}  # fmt: skip

_LEAST_TOP_A: Final = 0.02  # the height that a dead channel is given
_FOOTROOM: Final = 0.06

_NAMES: Final[Mapping[int, tuple[str, ...]]] = {
    2: ("entry", "exit"),
    3: ("entry", "transition", "exit"),
}


@dataclass(frozen=True, slots=True)
class Keypoint:
    """One keypoint that a model found, in mm of |position|.

    Attributes:
        name: entry, transition or exit.
        at_mm: where the torque begins to rise or fall.
        sigma_mm: one standard deviation of it; None where the model says nothing.
        tip_mm: where the tip itself met the boundary; None where the model says nothing.
        truth_mm: the reference; None where there is none.
    """

    name: str
    at_mm: float
    sigma_mm: float | None = None
    tip_mm: float | None = None
    truth_mm: float | None = None

    @property
    def label(self) -> str:
        """Names it, as "entry 5.02 ± 0.04 mm"."""
        spread = "" if self.sigma_mm is None else f" ± {self.sigma_mm:.2f}"
        return f"{self.name} {self.at_mm:.2f}{spread} mm"

    @property
    def against_truth(self) -> str:
        """The reference beside it, as "reference 5.00 (+0.02)"; "" where there is none."""
        if self.truth_mm is None:
            return ""
        return f"reference {self.truth_mm:.2f} ({self.at_mm - self.truth_mm:+.2f})"


@dataclass(frozen=True, slots=True)
class StepSpan:
    """One step of the program as it was drilled, from `low` to `high` on the axis."""

    low: float
    high: float
    number: int
    stopped: str  # why the machine ended it; "" where it does not say


class Course:
    """Where each sample of a hole lies on the axis, and where a position does."""

    def __init__(self, hole: Hole, by: By = "position") -> None:
        self.by: By = by
        position = hole.position_mm.astype(np.float64)
        self._rate_hz = hole.sample_rate_hz
        self._reached = np.maximum.accumulate(position)
        self.values: Array = (
            position if by == "position" else np.arange(len(hole)) / hole.sample_rate_hz
        )

    def at(self, position_mm: float) -> float:
        """The place on the axis of a |position|; by time it is when the drill first got there."""
        if self.by == "position":
            return position_mm
        index = int(np.searchsorted(self._reached, position_mm))
        return min(index, len(self._reached) - 1) / self._rate_hz

    def window(self, position_mm: float) -> tuple[float, float]:
        """The stretch of the axis to show around a keypoint."""
        before, after = ZOOM_MM
        low, high = self.at(position_mm + before), self.at(position_mm + after)
        return (low, high) if high > low else (low, low + 1.0)

    def spans(self, hole: Hole) -> list[StepSpan]:
        """The steps in order; a pull-back at a step's begin counts to the one before."""
        bounds = [0, *(np.flatnonzero(np.diff(hole.step_number)) + 1), len(hole) - 1]
        if len(bounds) > MAX_SPANS:
            return []
        along = self._reached if self.by == "position" else self.values
        seen: Counter[int] = Counter()
        found = []
        for first, last in pairwise(bounds):
            number = int(hole.step_number[first])
            step = _reported(hole.steps, number, seen[number])
            seen[number] += 1
            stopped = "" if step is None else stop_words(step.stop_code)
            found.append(StepSpan(float(along[first]), float(along[last]), number, stopped))
        return found


def _reported(steps: Sequence[Step], number: int, occurrence: int) -> Step | None:
    """The machine's report of a step; a program may run one number again."""
    same = [step for step in steps if step.number == number]
    return same[occurrence] if occurrence < len(same) else None


def stop_words(code: int | None) -> str:
    """A stop code in words; "" where there is none."""
    if not code:
        return ""
    words = [word for bit, word in STOP_WORDS.items() if code & bit]
    return " and ".join(words) or f"code {code}"


def keypoints(answer: Answer, truth: Sequence[float] | None = None) -> list[Keypoint]:
    """The keypoints of an answer; none where it is insufficient.

    Args:
        answer: of a depth model.
        truth: entry, transition and exit in mm; NaN where there is none.
    """
    if isinstance(answer, Insufficient):
        return []
    at_mm = answer["keypoints_mm"]
    names = _names(len(at_mm))
    sigma, tip = (_padded(answer.get(key), len(at_mm)) for key in ("sigma_mm", "tip_mm"))
    known = dict(references(truth))
    return [
        Keypoint(name, float(at), s, t, known.get(name))
        for name, at, s, t in zip(names, at_mm, sigma, tip, strict=True)
    ]


def references(truth: Sequence[float] | None) -> list[tuple[str, float]]:
    """Name and |position| in mm of each reference keypoint that there is."""
    pairs = zip(_names(len(truth)), truth, strict=True) if truth is not None else ()
    return [(name, float(at)) for name, at in pairs if math.isfinite(at)]


def captions(answer: Answer, truth: Sequence[float] | None = None) -> list[tuple[str, str, float]]:
    """Name, words and |position| in mm of what to look at: the keypoints, else the references."""
    if found := keypoints(answer, truth):
        return [(k.name, f"{k.label}  {k.against_truth}".rstrip(), k.at_mm) for k in found]
    return [(name, f"{name} reference {at:.2f} mm", at) for name, at in references(truth)]


def outcome(answer: Answer) -> str:
    """The outcome in words, as "depth 12.28 mm (7.90 + 4.38), quality 0.97"."""
    if isinstance(answer, Insufficient):
        return f"insufficient: {answer.reason}"
    at_mm = [float(at) for at in answer["keypoints_mm"]]
    if len(at_mm) < 2:
        return "no depth: fewer than two keypoints"
    total = f"{at_mm[-1] - at_mm[0]:.2f} mm"
    depths = " + ".join(f"{b - a:.2f}" for a, b in pairwise(at_mm))
    words = f"single layer, depth {total}" if len(at_mm) == 2 else f"depth {total} ({depths})"
    quality = answer.get("quality")
    return words if quality is None else f"{words}, quality {quality:.2f}"


def current_limits(
    signals: Sequence[FloatArray], *, headroom: float = 0.0
) -> list[tuple[float, float]]:
    """Limits of an axis for each current in A, that show all of it and have one common zero.

    Args:
        signals: (n,) each.
        headroom: free share above.
    """
    tops = [max(float(signal.max(initial=0.0)), _LEAST_TOP_A) for signal in signals]
    lows = [float(s.min(initial=0.0)) / top for s, top in zip(signals, tops, strict=True)]
    # A current that is all below zero must not press the other one flat.
    foot = max(min(lows), -1.0) - _FOOTROOM
    return [(foot * top, (1 + headroom) * top) for top in tops]


def _names(count: int) -> tuple[str, ...]:
    return _NAMES.get(count) or tuple(f"keypoint {i}" for i in range(1, count + 1))


def _padded(numbers: Sequence[float] | None, count: int) -> list[float | None]:
    """One number for each keypoint; None where a model gave fewer or none."""
    given = [float(number) for number in numbers or ()][:count]
    return [*given, *[None] * (count - len(given))]
