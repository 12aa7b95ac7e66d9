"""The `Brake`: when the intake must wait, and when waiting is not enough any more.

While it is on, MQTT holds what comes. Where a policy was chosen, holes are shed once it has been on
for long, and on until the intake has been free for as long. A decision without I/O.
"""

from __future__ import annotations


class Brake:
    """See the module. Times are monotonic seconds.

    Args:
        policy: never, oldest or newest.
        after_s: how long the intake must have waited before holes are shed.
    """

    def __init__(self, *, policy: str, after_s: float) -> None:
        self.policy = policy
        self._after_s = after_s
        self._on_since_s: float | None = None
        self._calm_since_s: float | None = None
        self.is_shedding = False

    @property
    def is_on(self) -> bool:
        """Whether the intake waits."""
        return self._on_since_s is not None

    def on_for_s(self, now_s: float) -> float:
        """For how long the intake has been waiting."""
        return now_s - self._on_since_s if self._on_since_s is not None else 0.0

    def update(self, now_s: float, *, is_full: bool) -> bool:
        """How things are now; returns whether to shed.

        Args:
            now_s: the time.
            is_full: whether the intake must wait.
        """
        if not is_full:
            self._on_since_s = None
            if self._calm_since_s is None:
                self._calm_since_s = now_s
            if now_s - self._calm_since_s >= self._after_s:
                self.is_shedding = False
            return False
        self._calm_since_s = None
        if self._on_since_s is None:
            self._on_since_s = now_s
        if self.policy == "never":
            return False
        if now_s - self._on_since_s >= self._after_s:
            self.is_shedding = True
        return self.is_shedding
