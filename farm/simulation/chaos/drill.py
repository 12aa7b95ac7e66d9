"""The drilling units under chaos: publish what the `Twister` makes, and note what became of it.

Owns the sending and the record of it; waits for nobody.
"""

from __future__ import annotations

import heapq
import threading
import time
from itertools import count
from typing import TYPE_CHECKING, Final

from farm.simulation.mqtt import BrokerAddress, MqttLink

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from farm.simulation.chaos.history import Message, SentHole
    from farm.simulation.chaos.traffic import Posting, Twister
    from farm.simulation.schedule import OutgoingHole

# The MQTT broker may be away for some seconds, and its restart takes others.
STALL_S: Final = 20.0


class Drill:
    """Holes at random moments, until `stop`.

    Args:
        address: the MQTT broker.
        next_hole: gives the next good hole.
        twister: what happens to it.
        rate_hz: holes a second.
        rng: of the moments.
    """

    def __init__(
        self,
        address: BrokerAddress,
        next_hole: Callable[[], OutgoingHole],
        twister: Twister,
        *,
        rate_hz: float,
        rng: Random,
    ) -> None:
        self._link = MqttLink(address, name="chaos-units", on_acknowledged=_acknowledged)
        self._next_hole = next_hole
        self._twister = twister
        self._rate_hz = rate_hz
        self._rng = rng
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="units", daemon=True)
        self._waiting: list[tuple[float, int, Posting]] = []
        self._order = count()
        self.holes: list[SentHole] = []
        self.strays: list[Message] = []

    def connect(self) -> None:
        """Connect.

        Raises:
            MqttError: the broker can't be reached or refuses us.
        """
        self._link.connect()

    def start(self) -> None:
        """Begin to drill."""
        self._thread.start()

    def stop(self) -> None:
        """Begin no further hole; those that have begun come to their end."""
        self._stop.set()

    def finish(self) -> None:
        """Wait for the last message and for all acknowledgements, if they come at all."""
        self._thread.join()
        self._link.drain(STALL_S)

    def close(self) -> None:
        """Disconnect."""
        self.stop()
        self._link.close()

    def publish(self, topic: str, payload: bytes) -> None:
        """Any other message, over the same connection."""
        self._link.publish(topic, payload)

    def _run(self) -> None:
        begin_s = time.monotonic()
        while not self._stop.is_set():
            self._send_until(begin_s)
            self._begin(begin_s)
            begin_s += self._rng.expovariate(self._rate_hz)
        self._send_until(float("inf"))

    def _begin(self, begin_s: float) -> None:
        planned = self._twister.twist(self._next_hole())
        self.holes.append(planned.hole)
        self.strays += planned.strays
        for posting in planned.postings:
            heapq.heappush(self._waiting, (begin_s + posting.due_s, next(self._order), posting))

    def _send_until(self, until_s: float) -> None:
        """Send what is due before a time, each when it is due, and wait for that time."""
        while self._waiting and self._waiting[0][0] <= until_s:
            due_s, _, posting = heapq.heappop(self._waiting)
            self._sleep_until(due_s)
            posting.message.sent_s = time.monotonic()
            self._link.publish(posting.message.topic, posting.payload, posting.message)
        if until_s != float("inf"):
            self._sleep_until(until_s)

    @staticmethod
    def _sleep_until(due_s: float) -> None:
        time.sleep(max(0.0, due_s - time.monotonic()))


def _acknowledged(message: Message) -> None:
    message.acknowledged_s = time.monotonic()
