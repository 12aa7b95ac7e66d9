"""What became of the published holes: answered, late, twice, or never. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from farm.simulation.listener import HoleAnswer
    from farm.simulation.units import HoleKey


@dataclass(frozen=True, slots=True)
class Latency:
    """From the last message of a hole published to its depth received; milliseconds."""

    count: int
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The account of a run.

    Attributes:
        holes: published completely.
        answered: of those, the ones with both KeyPoints and DepthEstimation.
        unanswered: the keys of the rest.
        repeated: the keys of holes answered more than once.
        errors: holes whose answer is a reason instead of depths.
        strangers: answers for holes that were not published in this run.
        latency: over the measured holes.
        rate_hz: holes answered per second, from the first publication to the last answer.
    """

    holes: int
    answered: int
    unanswered: list[HoleKey]
    repeated: list[HoleKey]
    errors: int
    strangers: int
    latency: Latency
    rate_hz: float
    error_reasons: dict[str, int] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Every hole was answered, and only once."""
        return not self.unanswered and not self.repeated


def outcome(
    sent_s: Mapping[HoleKey, float],
    answers: Mapping[HoleKey, HoleAnswer],
    *,
    measure_from_s: float = 0.0,
) -> Outcome:
    """Compare what was published with what came back.

    Args:
        sent_s: when the last message of each hole was published (monotonic).
        answers: what was heard, by hole.
        measure_from_s: holes published before count, but not into the latency (warm-up).
    """
    found = {key: answers[key] for key in sent_s if key in answers}
    complete = {key: answer for key, answer in found.items() if answer.complete}
    reasons: dict[str, int] = {}
    for answer in complete.values():
        if answer.is_error:
            reasons[answer.reason] = reasons.get(answer.reason, 0) + 1
    return Outcome(
        holes=len(sent_s),
        answered=len(complete),
        unanswered=[key for key in sent_s if key not in complete],
        repeated=[key for key, answer in found.items() if answer.repeated],
        errors=sum(reasons.values()),
        strangers=len(answers) - len(found),
        latency=latency(_delays_s(sent_s, complete, measure_from_s)),
        rate_hz=_rate_hz(sent_s, complete),
        error_reasons=reasons,
    )


def latency(delays_s: Sequence[float]) -> Latency:
    """The percentiles of delays in seconds."""
    if not delays_s:
        return Latency(0)
    ordered = sorted(delays_s)
    p50, p90, p99 = (1000 * percentile(ordered, share) for share in (0.5, 0.9, 0.99))
    return Latency(len(ordered), p50, p90, p99, 1000 * ordered[-1])


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of sorted values: the least that `share` of them don't exceed."""
    rank = -(-len(ordered) * share // 1)  # rounded up
    return ordered[max(0, min(len(ordered), int(rank)) - 1)]


def _delays_s(
    sent_s: Mapping[HoleKey, float], complete: Mapping[HoleKey, HoleAnswer], measure_from_s: float
) -> list[float]:
    return [
        answer.depth_s - sent_s[key]
        for key, answer in complete.items()
        if answer.depth_s is not None and sent_s[key] >= measure_from_s
    ]


def _rate_hz(sent_s: Mapping[HoleKey, float], complete: Mapping[HoleKey, HoleAnswer]) -> float:
    if not complete:
        return 0.0
    last_s = max(answer.depth_s or 0.0 for answer in complete.values())
    span_s = last_s - min(sent_s.values())
    return len(complete) / span_s if span_s > 0 else 0.0
