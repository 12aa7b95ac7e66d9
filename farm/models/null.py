"""A model that does nothing, or nothing but use CPU time: what is measured with it is all the rest.

For `farm bench`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from farm.errors import ModelError
from farm.models.model import depth_answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


MAX_COST_MS: Final = 10_000.0


class NullModel:
    """Answers every hole alike, as `farm.models.model.Model`.

    Args:
        settings: `cost_ms`: CPU time that each hole takes, in milliseconds; 0 without it.

    Raises:
        ModelError: a setting is unknown or can't be.
    """

    version = "null"
    content_hash = "null"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        cost_ms = settings.get("cost_ms", 0)
        is_number = isinstance(cost_ms, int | float) and not isinstance(cost_ms, bool)
        if set(settings) - {"cost_ms"} or not is_number or not 0 <= cost_ms <= MAX_COST_MS:
            raise ModelError(
                f"model_settings: the null model knows cost_ms, a number up to {MAX_COST_MS:g}"
            )
        self._cost_s = cost_ms / 1000

    def warm_up(self) -> None:
        """Nothing is cold."""

    def infer(self, inputs: Sequence[Any]) -> list[Mapping[str, Any]]:
        """The same depths for each."""
        # the thread's own time: waiting for a core is not what it costs
        end_s = time.thread_time() + self._cost_s * len(inputs)
        while self._cost_s and time.thread_time() < end_s:
            pass
        return [depth_answer((1.0, 2.0, 3.0)) for _ in inputs]
