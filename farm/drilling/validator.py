"""Judges the keypoints of a hole: whether they make depths, and what to do about negative ones.

Owns the policy for negative depths and the count of runs of them. No I/O: events and times in,
verdicts out. The words of an answer are the formatter's.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from farm.config import DepthValidationConfig

DECIMALS: Final = 3  # 1 µm: finer than the units' position quantum of 0.0038 mm
MAX_KEYPOINTS: Final = 32  # materials of a stack and one; none has more than a few
MAX_SOURCES: Final = 10_000  # tools whose runs are remembered; the longest unheard goes first
MAX_ABS_MM: Final = 1e300  # so that a difference is finite too


class Decision(Enum):
    """What becomes of an answer."""

    PUBLISH = "publish"
    WARN = "warn"  # publish, with a warning in it
    SKIP = "skip"  # keep back
    INVALID = "invalid"  # these are no depths: answer with an error


class Verdict(NamedTuple):
    """The judgement of one hole.

    Attributes:
        decision: what becomes of the answer.
        keypoints_mm: rounded to DECIMALS; empty when INVALID.
        depths_mm: the differences of those; empty when INVALID.
        negative: whether a depth is below zero.
        reason: a sentence when INVALID, else "".
        run_reached: whether this hole made a run of negatives reach the threshold.
        alert: a sentence for the operator, or "".
    """

    decision: Decision
    keypoints_mm: tuple[float, ...] = ()
    depths_mm: tuple[float, ...] = ()
    negative: bool = False
    reason: str = ""
    run_reached: bool = False
    alert: str = ""


@dataclass(slots=True)
class _Run:
    """The negatives in a row of one source."""

    times_s: deque[float]  # of the newest ones, at most the threshold
    reached: bool = False  # the threshold, and it was counted
    alerted_s: float = field(default=-math.inf)


class DepthValidator:
    """Turns keypoints into depths and applies the policy for negative ones.

    A run is an unbroken row of negative depths of one source; a depth that is not negative ends it,
    an answer without depths leaves it as it is.
    """

    def __init__(self, config: DepthValidationConfig) -> None:
        self._config = config
        self._window_s = config.sequential_window_minutes * 60.0
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._counts = dict.fromkeys(
            ("judged", "negative_depths", "negative_runs", "alerts", "invalid_values",
             "skipped", "warned"), 0
        )  # fmt: skip

    @property
    def statistics(self) -> dict[str, int]:
        """How many holes were judged, and how; a copy."""
        return dict(self._counts)

    def judge(self, source: str, keypoints_mm: Any, now_s: float) -> Verdict:
        """The verdict on one hole.

        Args:
            source: whose runs are counted, "toolbox/tool".
            keypoints_mm: at least two numbers in mm of |position|, in order of depth; whatever else
                a model gave instead is INVALID.
            now_s: monotonic time.
        """
        self._counts["judged"] += 1
        reason = _why_not_keypoints(keypoints_mm)
        if reason:
            return self._invalid(reason)
        keypoints = tuple(map(rounded, keypoints_mm))
        depths = tuple([rounded(b - a) for a, b in pairwise(keypoints)])
        if min(depths) >= 0:
            self._end_run(source, now_s)
            return Verdict(Decision.PUBLISH, keypoints, depths)
        reached, alert = self._track(source, now_s)
        return Verdict(
            decision=self._decide(),
            keypoints_mm=keypoints,
            depths_mm=depths,
            negative=True,
            run_reached=reached,
            alert=alert,
        )

    def _invalid(self, reason: str) -> Verdict:
        self._counts["invalid_values"] += 1
        return Verdict(decision=Decision.INVALID, reason=reason)

    def _decide(self) -> Decision:
        """What becomes of a negative depth."""
        self._counts["negative_depths"] += 1
        if self._config.negative_depth_behavior == "skip":
            self._counts["skipped"] += 1
            return Decision.SKIP
        if self._config.negative_depth_behavior == "warning":
            self._counts["warned"] += 1
            return Decision.WARN
        return Decision.PUBLISH

    def _track(self, source: str, now_s: float) -> tuple[bool, str]:
        """One more negative: whether a run has just reached the threshold, and the alert of it."""
        if not self._config.track_sequential_negatives:
            return False, ""
        run = self._run(source)
        run.times_s.append(now_s)
        is_full = len(run.times_s) == self._config.sequential_threshold
        if not is_full or now_s - run.times_s[0] > self._window_s:
            return False, ""
        first_time = not run.reached
        run.reached = True
        self._counts["negative_runs"] += first_time
        if now_s - run.alerted_s < self._window_s:
            return first_time, ""
        run.alerted_s = now_s
        self._counts["alerts"] += 1
        return first_time, self._alert(source)

    def _run(self, source: str) -> _Run:
        run = self._runs.get(source)
        if run is None:
            run = _Run(deque(maxlen=self._config.sequential_threshold))
            self._runs[source] = run
            if len(self._runs) > MAX_SOURCES:
                self._runs.popitem(last=False)
        self._runs.move_to_end(source)
        return run

    def _end_run(self, source: str, now_s: float) -> None:
        run = self._runs.get(source)
        if run is None:
            return
        if now_s - run.alerted_s >= self._window_s:
            del self._runs[source]
        else:  # one alert a window, also for a second run in it
            run.times_s.clear()
            run.reached = False

    def _alert(self, source: str) -> str:
        config = self._config
        return (
            f"{source}: {config.sequential_threshold} negative depths in a row within"
            f" {config.sequential_window_minutes:g} minutes: check that unit's program, drill bit"
            " and stack; what happens to these answers is set by"
            f" mqtt.depth_validation.negative_depth_behavior ({config.negative_depth_behavior})"
        )


def rounded(value: float) -> float:
    """A finite number as it is published: to DECIMALS, and never -0.0."""
    return round(value, DECIMALS) + 0.0  # adding zero makes an integer a float, and of -0.0 0.0


def is_finite_number(value: Any) -> bool:
    """Whether a model gave a number here that can be reckoned with."""
    if type(value) is float:  # nearly always
        return -MAX_ABS_MM < value < MAX_ABS_MM  # false for NaN, too
    # an integer may be too long for a float
    return _is_number(value) and abs(value) < MAX_ABS_MM


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _why_not_keypoints(value: Any) -> str:
    """Why these are no keypoints, as a sentence; "" if they are."""
    if not isinstance(value, list | tuple):
        return "The model's answer holds no list of keypoints"
    if not 2 <= len(value) <= MAX_KEYPOINTS:
        return f"The model gave {len(value)} keypoints, where 2 to {MAX_KEYPOINTS} make depths"
    for keypoint in value:
        if not is_finite_number(keypoint):
            kind = "finite number" if _is_number(keypoint) else "number"
            return f"The model gave a keypoint that is not a {kind}"
    return ""
