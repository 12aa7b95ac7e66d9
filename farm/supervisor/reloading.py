"""`Reloading`: what happens on SIGHUP, from the file to the last replaced worker, or back again.

The file is checked and put in force, the broker is told, the workers are replaced one after the
other. Where a new worker does not come up, all is taken back: the farm goes on as it was. Knows no
sockets and no processes; the supervisor carries it out.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from farm import log, wire
from farm.errors import FarmError
from farm.supervisor.rollout import Rollout

if TYPE_CHECKING:
    from farm.config import Config
    from farm.supervisor.in_force import InForce
    from farm.supervisor.pool import Pool

DEVICE: Final = "model_settings.device"


class Reloading:
    """See the module. `request` is what the broker must be told next, if anything."""

    def __init__(self, in_force: InForce, workers: Pool) -> None:
        self._in_force = in_force
        self._workers = workers
        self._log = log.get()
        self._rollout: Rollout | None = None
        self._since_s = 0.0  # who was started later has what is new
        self._is_way_back = False
        self.request: wire.Reload | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether one was begun and is not over."""
        return self.request is not None or self._rollout is not None

    def begin(self) -> bool:
        """An operator asks for it. Returns whether the new configuration is in force now."""
        if self.is_under_way:
            self._log.warning("reload_refused", reason="the one before is still under way")
            return False
        before = _device(self._in_force.config)
        try:
            taken, waiting = self._in_force.renew()
        except (FarmError, OSError) as error:
            self._log.error(
                "reload_refused",
                reason=str(error),
                effect="the farm goes on as it was",
                cure="mend the file (`farm config check` shows what is wrong), then SIGHUP again",
            )
            return False
        after = _device(self._in_force.config)
        if after != before and (self._workers.fixed or "cuda" in (before, after)):
            waiting = [*waiting, DEVICE]  # which workers there are was settled at the start
        if waiting:
            self._log.warning(
                "needs_restart",
                keys=waiting,
                effect="these settings come into force when the farm is started again",
            )
        self._log.info("reload_begun", changed=taken)
        self.request = wire.Reload()
        self._since_s, self._is_way_back = time.monotonic(), False
        return True

    def answered(self, reply: wire.Message) -> None:
        """The broker's answer to `request`."""
        self.request = None
        if not isinstance(reply, wire.Refused):
            new = [s.name for s in self._workers.kept if s.started_s >= self._since_s]
            self._rollout = Rollout(self._workers, new if self._is_way_back else None)
        elif not self._is_way_back:
            self._log.error(
                "reload_refused", reason=reply.reason, effect="the farm goes on as it was"
            )
            self._take_back()

    def step(self, now_s: float) -> list[int]:
        """Go on with the rollout; returns the pids of workers that are to leave now."""
        rollout = self._rollout
        if rollout is None:
            return []
        leaving = rollout.step(now_s)
        if rollout.is_over:
            self._rollout = None
            self._end(rollout)
        return leaving

    def _end(self, rollout: Rollout) -> None:
        if not rollout.failure:
            event = "reload_taken_back" if self._is_way_back else "reloaded"
            self._log.info(event, workers_replaced=len(rollout.replaced))
            return
        self._log.error(
            "rollout_failed",
            how=rollout.failure,
            workers_replaced=len(rollout.replaced),
            effect="what can be kept of the former configuration is kept"
            if self._is_way_back
            else "the former configuration is put in force again",
            cure="read the log lines of the worker that ended",
        )
        if self._is_way_back:
            return
        self._take_back()
        self._is_way_back = True
        self.request = wire.Reload()

    def _take_back(self) -> None:
        try:
            self._in_force.take_back()
        except OSError as error:
            self._log.error(
                "configuration_not_written",
                reason=str(error),
                effect="processes that are started from now on have the refused settings",
                cure="make room in the state directory, mend the file, then SIGHUP again",
            )


def _device(config: Config) -> object:
    return config.model_settings.get("device")
