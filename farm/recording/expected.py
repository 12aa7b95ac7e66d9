"""Compares the answers to a replay with those that are expected. Pure.

What a hole must be answered depends on what was sent of it: one whose Trace a fault has dropped
must end in an error, and one of which nothing was sent in nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from farm.recording.answers import HoleKey, HoleResult, Refusal
    from farm.recording.results import Results

TOLERANCE_MM = 0.05
_ROUNDING_MM = 1e-9
NOTHING = "no answer"
ANY_ERROR = "an error, since a part of it was not sent"


class Verdict(Enum):
    """What is wrong with the answer to a hole."""

    MISSING = "missing"
    EXTRA = "extra"
    DIFFERENT = "different"
    REFUSED = "refused"


class Sent(NamedTuple):
    """What was sent of a hole.

    Attributes:
        kinds: that were published.
        recorded: that the recording has.
    """

    kinds: frozenset[str]
    recorded: frozenset[str]


class Difference(NamedTuple):
    """One thing that is not as expected."""

    verdict: Verdict
    tool: str
    result_id: str  # with its number among equals; "" for what belongs to no hole
    expected: str
    found: str


@dataclass(slots=True)
class Comparison:
    """The outcome.

    Attributes:
        same: holes whose answer is as expected.
        not_sent: expected ones of which nothing was sent, and to which nothing came.
        largest_mm: the largest difference among the same ones.
        differences: all the others.
    """

    same: int = 0
    not_sent: int = 0
    largest_mm: float = 0.0
    differences: list[Difference] = field(default_factory=list)

    @property
    def is_same(self) -> bool:
        """Nothing differs."""
        return not self.differences

    def counts(self) -> dict[str, int]:
        """How many differences there are of each kind."""
        found = Counter(each.verdict for each in self.differences)
        return {verdict.value: found[verdict] for verdict in Verdict}


def compare(
    expected: Results,
    found: Results,
    sent: Mapping[HoleKey, Sent],
    *,
    required: Collection[str],
    tolerance_mm: float = TOLERANCE_MM,
    is_partial: bool = False,
    has_faults: bool = False,
) -> Comparison:
    """Compare hole by hole.

    Args:
        expected: the answers of another time.
        found: those of now, under the recorded ids.
        sent: what was published of each hole of the recording.
        required: the kinds without which a hole has no depths.
        tolerance_mm: by how much a keypoint or a depth may differ.
        is_partial: not all of the recording was replayed, on purpose.
        has_faults: messages were dropped or doubled, so that other refusals are no surprise.
    """
    comparison = Comparison()
    needed = frozenset(required)
    for key in sorted(expected.holes.keys() | found.holes.keys()):
        wanted, answer = expected.holes.get(key), found.holes.get(key)
        what = sent.get(key)
        if wanted is not None and what is None and answer is None and is_partial:
            comparison.not_sent += 1
            continue
        _judge(comparison, key, (wanted, answer), _obligation(what, needed), tolerance_mm)
    if not has_faults and not is_partial:
        _compare_refusals(comparison, expected.refusals, found.refusals)
    return comparison


class _Obligation(Enum):
    """What must come of what was sent."""

    AS_EXPECTED = 1
    ERROR = 2  # some of it is missing
    NOTHING = 3


def _obligation(what: Sent | None, needed: frozenset[str]) -> _Obligation:
    if what is None or needed <= what.kinds:
        return _Obligation.AS_EXPECTED
    return _Obligation.ERROR if needed & what.kinds else _Obligation.NOTHING


def _judge(
    comparison: Comparison,
    key: HoleKey,
    answers: tuple[HoleResult | None, HoleResult | None],
    obligation: _Obligation,
    tolerance_mm: float,
) -> None:
    """Compare the expected answer of a hole with the one that came."""
    wanted, answer = answers
    if obligation is _Obligation.NOTHING:
        fault = Verdict.EXTRA if answer is not None else None
        should: object = NOTHING
        comparison.not_sent += answer is None and wanted is not None
    elif obligation is _Obligation.ERROR:
        should = ANY_ERROR
        fault = Verdict.MISSING if answer is None else Verdict.DIFFERENT
        if answer is not None and answer.is_error:
            fault = None
            comparison.same += 1
    else:
        should = NOTHING if wanted is None else wanted
        fault = _fault(comparison, wanted, answer, tolerance_mm)
    if fault is not None:
        told = NOTHING if answer is None else str(answer)
        name = key.result_id + (f" #{key.nth}" if key.nth > 1 else "")
        comparison.differences.append(Difference(fault, key.source, name, str(should), told))


def _fault(
    comparison: Comparison,
    wanted: HoleResult | None,
    answer: HoleResult | None,
    tolerance_mm: float,
) -> Verdict | None:
    """What is wrong with the answer to a hole that was sent whole; None: it is the same."""
    if answer is None:
        return Verdict.MISSING
    if wanted is None:
        return Verdict.EXTRA
    distance_mm = _distance_mm(wanted, answer)
    # turned round, so that no number that can't be compared counts as near
    if not distance_mm <= tolerance_mm + _ROUNDING_MM or math.isinf(distance_mm):
        return Verdict.DIFFERENT
    comparison.same += 1
    comparison.largest_mm = max(comparison.largest_mm, distance_mm)
    return None


def _distance_mm(one: HoleResult, other: HoleResult) -> float:
    """The largest difference between two answers; infinite where they can't be compared."""
    if one.is_error or other.is_error:
        return 0.0 if one.reason == other.reason else math.inf
    pairs = ((one.keypoints_mm, other.keypoints_mm), (one.depths_mm, other.depths_mm))
    largest_mm = 0.0
    for left, right in pairs:
        if left is None or right is None:
            if left is not right:
                return math.inf
            continue
        if len(left) != len(right):
            return math.inf
        for a, b in zip(left, right, strict=True):
            if math.isnan(a) and math.isnan(b):
                continue
            distance_mm = abs(a - b)
            largest_mm = max(largest_mm, math.inf if math.isnan(distance_mm) else distance_mm)
    return largest_mm


def _compare_refusals(
    comparison: Comparison, expected: Counter[Refusal], found: Counter[Refusal]
) -> None:
    for refusal in sorted(expected.keys() | found.keys()):
        wanted, came = expected[refusal], found[refusal]
        if wanted != came:
            comparison.differences.append(
                Difference(
                    Verdict.REFUSED,
                    refusal.source,
                    "",
                    f"{wanted} x {refusal.kind}: {refusal.reason}",
                    f"{came} x",
                )
            )
