"""`Staffing`: how many workers are configured and how many are wanted, and what of it the broker
must be told.

A decision without I/O. The broker decides how many there should be; the supervisor outlives it, and
keeps what a new one can't know: an operator's number, and one that was configured meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm import wire
from farm.scaler import Scaler

if TYPE_CHECKING:
    from farm.config import Config


class Staffing:
    """See the module.

    Attributes:
        wanted: how many workers to keep.
        is_pinned: an operator said so.
    """

    def __init__(self, config: Config) -> None:
        self._configured = config.mqtt.processing.workers
        self._follows_load = bool(config.workers.min or config.workers.max)
        self.wanted = Scaler.of(config).wanted
        self.is_pinned = False
        self._requests: list[wire.Scale | wire.Configured] = []

    @property
    def request(self) -> wire.Scale | wire.Configured | None:
        """What the broker must be told next, if anything."""
        return self._requests[0] if self._requests else None

    def broker_starts(self) -> int:
        """A broker is started: with how many `--workers`. What else it must know are requests.

        What is configured, since `farm scale auto` goes back to that. Where the load has the say
        it is the number to start with, so a new broker goes on from where the last one was.
        """
        self._requests = []
        if self.is_pinned:
            self._requests = [wire.Scale(self.wanted)]
        elif not self._follows_load and self.wanted != self._configured:
            self._requests = [wire.Configured(self._configured)]  # the order for it never came
        is_by_load = self._follows_load and not self.is_pinned
        return self.wanted if is_by_load else self._configured

    def reconfigured(self, config: Config) -> None:
        """Another configuration is in force; where the load has the say it changes nothing."""
        workers = config.mqtt.processing.workers
        if workers == self._configured:
            return
        self._configured = workers
        if not self._follows_load:
            self._requests.append(wire.Configured(workers))

    def told(self, request: wire.Message) -> None:
        """The broker has taken a request; others may have come up meanwhile."""
        self._requests = [each for each in self._requests if each is not request]
