"""The `Model` protocol: what a class must offer so that a worker can hold and run it.

Owns the contract alone; finding and loading a model is `farm.models.registry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Insufficient:
    """The model's way to say that an input has no answer, with the reason as a sentence.

    It is a regular outcome, published as ``"Value": reason, "Error": true``.
    """

    reason: str


@runtime_checkable
class Model(Protocol):
    """A resident model. One instance lives in each worker and is called from one thread.

    The class is constructed with the mapping `model_settings` of the configuration. Whatever
    `__init__` or `warm_up` raises ends the worker before it is READY.
    """

    version: str
    """Published with every answer as AlgoVersion."""

    content_hash: str
    """Identifies the weights, so that an answer can be traced to what made it; published with every
    answer as ModelHash."""

    def warm_up(self) -> None:
        """Run once on a made-up input, so that the first real one is as fast as the rest."""
        ...

    def infer(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """Answer each input, in order.

        Args:
            inputs: what the adapter's `read` returned, one per job; for drilling a
                `farm.drilling.hole.Hole`.

        Returns:
            One answer per input: an `Insufficient`, or a value of None, bool, int, float, str,
            list and dict with str keys. Depth models answer as `depth_answer` does:
            ``{"keypoints_mm": [entry, transition, exit]}`` in mm of |position|, or
            ``[entry, exit]`` where there is one material; and, if they know it, ``"sigma_mm"`` and
            ``"tip_mm"``, lists of that length in mm, and ``"quality"``, 0 to 1.
        """
        ...


def depth_answer(
    keypoints_mm: Sequence[float],
    *,
    sigma_mm: Sequence[float] | None = None,
    quality: float | None = None,
    tip_mm: Sequence[float] | None = None,
) -> Mapping[str, Any]:
    """The answer of a depth model. What is None is left out.

    Args:
        keypoints_mm: in mm of |position|, in order of depth.
        sigma_mm: one standard deviation in mm of each keypoint; published as Sigma.
        quality: the probability, 0 to 1, that every keypoint is within 0.5 mm; published as
            Quality.
        tip_mm: where the tip itself met each boundary, which may be ahead of the torque, in mm of
            |position|; published as TipKeyPoints where the configuration wants it.
    """
    lists = {"keypoints_mm": keypoints_mm, "sigma_mm": sigma_mm, "tip_mm": tip_mm}
    answer: dict[str, Any] = {
        key: [float(number) for number in numbers]
        for key, numbers in lists.items()
        if numbers is not None
    }
    if quality is not None:
        answer["quality"] = float(quality)
    return answer
