"""The golden hole: one that was answered here, which a new worker must answer before any other.

It is a join of this very site, so it checks what a warm-up can't: that this model, with these
settings, on this machine, reads and answers the real traffic. A decision without I/O.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from farm.adapter import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

KEEP_S = 60.0  # a newer one takes its place no more often
MAX_LOST = 2  # new workers in a row that ended over it; then the hole is at fault
MAX_BYTES = 500_000  # it travels in the welcome, whose head is bounded
# Other machines and batch sizes round otherwise; a wrong model is wrong by far more.
REL_TOLERANCE = 1e-3
ABS_TOLERANCE = 1e-2


class Golden:
    """See the module. Times are monotonic seconds."""

    def __init__(self) -> None:
        self.parts: dict[str, bytes] = {}  # by kind; empty: no hole was answered yet
        self._value: Any = None
        self._model_hash = ""
        self._next_s = 0.0
        self._lost = 0

    def lost(self) -> bool:
        """A worker ended before it was READY; returns whether the hole is let go of for that.

        Else one that ends whoever computes it would keep every new worker out.
        """
        self._lost += 1
        if not self.parts or self._lost < MAX_LOST:
            return False
        self.parts = {}
        return True

    def keep(
        self, parts: Mapping[str, bytes] | None, value: Any, model_hash: str, now_s: float
    ) -> None:
        """A hole was answered with a value."""
        if now_s < self._next_s or not parts or sum(map(len, parts.values())) > MAX_BYTES:
            return
        self._next_s = now_s + KEEP_S
        self.parts, self._value, self._model_hash = dict(parts), value, model_hash

    def fault(self, model_hash: str, answer: Mapping[str, Any]) -> str:
        """What is wrong with a new worker's answer, as a sentence; "" where nothing is.

        Args:
            model_hash: of the worker's model.
            answer: status, value and reason; empty where it was given no golden hole.
        """
        self._lost = 0
        if not answer:
            return ""
        if answer.get("status") == Status.FAILED.value:
            return f"it failed on a hole that was answered before: {answer.get('reason')}"
        if model_hash != self._model_hash:
            return ""  # another model may well say something else
        if answer.get("status") == Status.OK.value and alike(answer.get("value"), self._value):
            return ""
        return f"it answers {answer.get('value')!r:.80} where {self._value!r:.80} was answered"


def alike(a: Any, b: Any) -> bool:
    """Whether two answers are the same, but for the rounding of another machine or batch."""
    if isinstance(a, bool) or isinstance(b, bool) or isinstance(a, str):
        return bool(a == b)
    if isinstance(a, int | float) and isinstance(b, int | float):
        both_nan = math.isnan(a) and math.isnan(b)
        return both_nan or math.isclose(a, b, rel_tol=REL_TOLERANCE, abs_tol=ABS_TOLERANCE)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    return bool(a == b)
