"""The `Intake`: a bounded queue between the MQTT thread and the broker's loop, and its clock.

Acknowledgements are the caller's: it acks what it took, in order of arrival. What does not fit is
refused here, stays unacknowledged, and comes again from the MQTT broker after a reconnect.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import NamedTuple

# Of what is kept by topic. MQTT allows 65 535 bytes, and with any of them a cache that is bounded
# in number alone would take gigabytes; a drilling unit's topic has about a hundred characters.
MAX_CACHED_TOPIC_CHARS = 300


class Arrival(NamedTuple):
    """One message as it came, with what it takes to acknowledge it."""

    topic: str
    payload: bytes
    mid: int
    qos: int
    epoch: int  # the connection it came on; mids mean nothing on another
    arrived_s: float  # monotonic
    is_redelivered: bool = False  # the MQTT broker may have sent it before


class Intake:
    """`put` is called by the MQTT thread, `take` by the loop; deque operations are atomic."""

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._queue: deque[Arrival] = deque()
        self._put_bytes = 0  # written by the MQTT thread only
        self._taken_bytes = 0  # written by the loop only
        self._dropped_bytes = 0  # written by the MQTT thread only

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def payload_bytes(self) -> int:
        """How many bytes are queued."""
        return self._put_bytes - self._taken_bytes - self._dropped_bytes

    def put(self, arrival: Arrival) -> bool:
        """Queue a message. False: it does not fit; it must stay unacknowledged.

        An empty queue takes any: a message beyond the bound would else come again for ever.
        """
        queue, size = self._queue, len(arrival.payload)
        if queue and (
            len(queue) >= self._max_messages or self.payload_bytes + size > self._max_bytes
        ):
            return False
        self._put_bytes += size
        queue.append(arrival)
        return True

    def take(self) -> Arrival | None:
        """The oldest message."""
        try:
            arrival = self._queue.popleft()
        except IndexError:
            return None
        self._taken_bytes += len(arrival.payload)
        return arrival

    def drop_what_comes_again(self) -> None:
        """For the MQTT thread, when the session goes on: all that is unacknowledged is sent anew.

        Else it would be here twice: the copies would fill the queue, and be read for nothing.
        """
        kept = []
        with contextlib.suppress(IndexError):
            while True:  # the loop may take some meanwhile
                arrival = self._queue.popleft()
                if arrival.qos == 0:
                    kept.append(arrival)
                else:
                    self._dropped_bytes += len(arrival.payload)
        self._queue.extend(kept)

    def delay_s(self, now_s: float) -> float:
        """How long the oldest message has been waiting here."""
        try:
            return max(now_s - self._queue[0].arrived_s, 0.0)
        except IndexError:
            return 0.0

    def has_room(self) -> bool:
        """Whether nearly all of the bounds is free: time to listen again after an overrun.

        Not sooner: what is still here then is sent once more, with all that did not fit.
        """
        return (
            len(self._queue) <= self._max_messages // 10
            and self.payload_bytes <= self._max_bytes // 10
        )


class IntakeClock:
    """Time during which parts could arrive: it stands still while MQTT is away or braked.

    The time window of a join runs on this clock, so that an outage of the MQTT broker, or our own
    brake, never makes a hole expire whose missing part is waiting in the broker.
    """

    def __init__(self) -> None:
        self._elapsed_s = 0.0
        self._running_since_s: float | None = None

    def read(self, now_s: float) -> float:
        """Seconds of open intake up to now."""
        running_s = now_s - self._running_since_s if self._running_since_s is not None else 0.0
        return self._elapsed_s + running_s

    def set_open(self, now_s: float, *, is_open: bool) -> None:
        """Run or stand still from now on."""
        if is_open and self._running_since_s is None:
            self._running_since_s = now_s
        elif not is_open and self._running_since_s is not None:
            self._elapsed_s += now_s - self._running_since_s
            self._running_since_s = None
