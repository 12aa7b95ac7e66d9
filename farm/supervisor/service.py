"""What the supervisor tells systemd of the farm: when it is up, how it is, and that it lives.

A decision without I/O: snapshots of the broker and the supervisor's own state go in,
`farm.systemd.Service` says what is to be said. A broker that hangs is the supervisor's business;
the watchdog is for the supervisor itself, and for the case that its cures don't help.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from farm.supervisor.watch import BROKER_START_S
from farm.systemd import Service, State

if TYPE_CHECKING:
    from farm.config import Config

ASK_EVERY_S: Final = 5.0
ASK_FIRST_EVERY_S: Final = 0.5  # until it is up
UP: Final = ("idle", "busy")


class FarmService:
    """See the module. Times are monotonic seconds."""

    def __init__(self, service: Service, now_s: float) -> None:
        self._service = service
        self._next_ask_s = now_s
        self._last_heard_s = now_s
        self._shot: dict[str, Any] = {}
        self._is_fresh = False
        self._was_up = False

    def wants_snapshot(self, now_s: float) -> bool:
        """Whether the broker is to be asked for a snapshot now."""
        if not self._service.is_on or now_s < self._next_ask_s:
            return False
        self._next_ask_s = now_s + (ASK_EVERY_S if self._was_up else ASK_FIRST_EVERY_S)
        return True

    def heard(self, shot: dict[str, Any]) -> None:
        """A snapshot came."""
        self._shot = shot
        self._is_fresh = True

    def tick(
        self, now_s: float, config: Config, *, workers: int, is_ending: bool, is_reloading: bool
    ) -> None:
        """Say what is due. Call it in every turn of the loop.

        Args:
            now_s: the time.
            config: in force.
            workers: that the supervisor keeps.
            is_ending: whether the farm stops.
            is_reloading: whether a reload is under way.
        """
        if not self._service.is_on:
            return
        if self._is_fresh:
            self._last_heard_s, self._is_fresh = now_s, False
        self._was_up = self._was_up or self._is_up(workers)
        state = State.UP if self._was_up else State.STARTING
        if self._was_up and is_reloading:
            state = State.RELOADING
        if is_ending:
            state = State.STOPPING
        supervisor = config.supervisor
        # so long the supervisor itself may need to replace a broker; beyond it, it has not helped
        patience_s = supervisor.broker_timeout_s + supervisor.backoff_max_s + BROKER_START_S
        is_well = is_ending or now_s - self._last_heard_s < patience_s
        self._service.tick(now_s, state, status=self._words(is_ending), is_well=is_well)

    def _is_up(self, workers: int) -> bool:
        if self._shot.get("mqtt", {}).get("state") != "connected":
            return False
        return workers == 0 or self._ready > 0  # with none here, they come from elsewhere, later

    @property
    def _ready(self) -> int:
        return sum(worker["state"] in UP for worker in self._shot.get("workers", ()))

    def _words(self, is_ending: bool) -> str:
        if is_ending:
            return "stopping: what is open is finished"
        if not self._shot:
            return "the broker process comes up"
        shot = self._shot
        told = [
            f"{shot['state']}: MQTT {shot['mqtt']['state']}",
            f"{self._ready} workers ready",
            f"{shot['throughput']['arrival_rate']:.1f} holes/s",
            f"{shot['throughput']['backlog']} wait",
        ]
        return "; ".join([", ".join(told), *map(str, shot["problems"][:1])])
