"""Reads what a depth model says of its certainty, as far as it is wanted and makes sense.

Owns what counts as malformed there. The keypoints are the validator's, the words the formatter's: a
confidence that is nonsense never costs a hole its depths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from farm.drilling.validator import is_finite_number, rounded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from farm.config import EstimationConfig


class Confidence(NamedTuple):
    """What may be published of a model's certainty about one hole; None: not given, or not wanted.

    Attributes:
        sigma_mm: one standard deviation in mm for each keypoint.
        quality: the model's own probability, 0 to 1, that every keypoint is within 0.5 mm.
        tip_mm: where the tip itself met each boundary, in mm of |position|.
        is_malformed: whether the model gave something that is left out because it makes no sense.
    """

    sigma_mm: tuple[float, ...] | None = None
    quality: float | None = None
    tip_mm: tuple[float, ...] | None = None
    is_malformed: bool = False


NO_CONFIDENCE: Final = Confidence()


class ConfidenceReader:
    """Takes the confidence from a model's answer, as far as the configuration wants it."""

    def __init__(self, config: EstimationConfig) -> None:
        self._wanted: dict[str, Callable[[Any, int], Any]] = {}
        if config.confidence:
            self._wanted |= {"sigma_mm": _sigma, "quality": _quality}
        if config.tip_keypoints:
            self._wanted["tip_mm"] = _numbers

    def read(self, answer: Mapping[str, Any], *, keypoints: int) -> Confidence:
        """The confidence in an answer that has this many keypoints.

        Each key stands for itself: one that is malformed does not cost the others.
        """
        read = {
            key: read_key(answer[key], keypoints)
            for key, read_key in self._wanted.items()
            if answer.get(key) is not None
        }
        return Confidence(**read, is_malformed=None in read.values())


def _sigma(value: Any, count: int) -> tuple[float, ...] | None:
    sigma_mm = _numbers(value, count)
    return None if sigma_mm is None or min(sigma_mm) < 0 else sigma_mm


def _quality(value: Any, _count: int) -> float | None:
    return rounded(value) if is_finite_number(value) and 0 <= value <= 1 else None


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    if not isinstance(value, list | tuple) or len(value) != count:
        return None
    if not all(map(is_finite_number, value)):
        return None
    return tuple(map(rounded, value))
