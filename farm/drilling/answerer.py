"""Answers each finished hole: with its depths, with the reason why there are none, or not at all.

Owns the mapping from how the work ended to the one visible end. `DepthValidator` judges the value,
`ConfidenceReader` how sure the model says it is, `ResultMessageFormatter` words the messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from farm.adapter import Answer, Finished, Publication, Route, Status, Terminal
from farm.drilling.confidence import ConfidenceReader
from farm.drilling.formatter import ResultMessageFormatter
from farm.drilling.validator import Decision, DepthValidator, Verdict

if TYPE_CHECKING:
    from farm.config import Config

NOT_ENOUGH: Final = "Not enough steps to estimate depth"  # where a model gave no words of its own


class DepthAnswerer:
    """The drilling traffic's `farm.adapter.Answerer`."""

    def __init__(self, config: Config) -> None:
        validation = config.mqtt.depth_validation
        self._validator = DepthValidator(validation)
        is_tracking = validation.track_sequential_negatives
        self.memory_s = 60.0 * validation.sequential_window_minutes if is_tracking else 0.0
        self._confidence = ConfidenceReader(config.mqtt.estimation)
        self._formatter = ResultMessageFormatter(config.mqtt)

    @property
    def statistics(self) -> dict[str, int]:
        """How many holes were judged, and how."""
        return self._validator.statistics

    def answer(self, finished: Finished, now_s: float) -> Answer:
        """The messages of a finished hole; `now_s` is monotonic."""
        if finished.status is Status.INSUFFICIENT:
            messages = self._formatter.error(finished, finished.reason or NOT_ENOUGH)
            return Answer(Terminal.INSUFFICIENT, messages)
        if finished.status is Status.FAILED:
            return Answer(Terminal.DEAD, self._formatter.error(finished, finished.reason))
        verdict = self._validator.judge(finished.source, _keypoints(finished.value), now_s)
        if verdict.decision is Decision.INVALID:
            messages = self._formatter.error(finished, verdict.reason)
            return Answer(Terminal.DEAD, messages, counts=("invalid_values",))
        return self._answer_depths(finished, verdict)

    def reject(self, route: Route, reason: str) -> tuple[Publication, ...]:
        """The error message for a part that can't be attributed to any hole."""
        return self._formatter.rejection(route, reason)

    def _answer_depths(self, finished: Finished, verdict: Verdict) -> Answer:
        if verdict.decision is Decision.SKIP:
            return Answer(Terminal.SKIPPED, (), alert=verdict.alert, counts=_counts(verdict))
        confidence = self._confidence.read(finished.value, keypoints=len(verdict.keypoints_mm))
        messages = self._formatter.depths(
            finished,
            keypoints_mm=verdict.keypoints_mm,
            depths_mm=verdict.depths_mm,
            confidence=confidence,
            warning=_warning(verdict),
        )
        counts = _counts(verdict)
        if confidence.is_malformed:
            counts = (*counts, "invalid_confidence")
        return Answer(Terminal.PUBLISHED, messages, verdict.alert, counts, confidence.quality)


def _keypoints(value: Any) -> Any:
    """What a depth model put where the keypoints belong; see `farm.models.model.depth_answer`."""
    is_answer = type(value) is dict or isinstance(value, Mapping)  # the first one nearly always
    return value.get("keypoints_mm") if is_answer else None


def _warning(verdict: Verdict) -> str:
    if verdict.decision is not Decision.WARN:
        return ""
    return f"Negative depth: {min(verdict.depths_mm):g} mm"


def _counts(verdict: Verdict) -> tuple[str, ...]:
    if not verdict.negative:  # as nearly always; a run is one of negatives
        return ()
    return ("negative_depths", "negative_runs") if verdict.run_reached else ("negative_depths",)
