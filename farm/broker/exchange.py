"""The `Exchange`: messages in, acknowledgements and answers out, over one connection after another.

It outlives the connections: what was published and is not confirmed is sent again on the next one,
under the same message id, as MQTT demands. The connection itself is the `MqttLink`'s.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, NamedTuple

from farm.broker import packets
from farm.broker.intake import MAX_CACHED_TOPIC_CHARS, Arrival, Intake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from farm.adapter import Publication
    from farm.broker.lane import Lane

# Ours are from here on: what paho sends itself, a few packets at the begin, has the ids below.
FIRST_MID = 1000
LAST_MID = 65_535
CLIENTS_OWN = 2  # of what may be in flight: the farm's status and its mark
FIRST_FAILURE = 0x80  # of a reason code
MAX_CACHED_TOPICS = 50_000  # three of each of 10 000 tools, and some more

# MQTT 5, section 3.4.2.1: what a broker may say of a PUBLISH
_REASONS = {
    0x80: "Unspecified error",
    0x83: "Implementation specific error",
    0x87: "Not authorized",
    0x90: "Topic Name invalid",
    0x91: "Packet identifier in use",
    0x97: "Quota exceeded",
    0x99: "Payload format invalid",
}


class Confirmed(NamedTuple):
    """The MQTT broker answered a publication; `refusal` is its reason, None when it took it."""

    mid: int
    refusal: str | None


class Exchange:
    """See the module. `acknowledge`, `publish`, `flush` and `poll` are for the loop's thread.

    Args:
        intake: takes the arrivals.
        wake: called when something is there for the loop.
        on_private: told of arrivals on `private_topic`, which are none.
        private_topic: one topic that is the link's own business.
        private_prefix: how further such topics begin; "": there are none.
    """

    def __init__(
        self,
        intake: Intake,
        wake: Callable[[], None],
        *,
        private_topic: str,
        on_private: Callable[[packets.Publish], None],
        private_prefix: str = "",
    ) -> None:
        self._intake = intake
        self._wake = wake
        self._private_topic = private_topic.encode()
        self._private_prefix = private_prefix.encode()
        self._on_private = on_private
        self._confirmed: deque[Confirmed] = deque()
        self._lock = threading.Lock()  # guards lane and epoch, and what is unconfirmed
        self._lane: Lane | None = None
        self._v5 = True
        self._epoch = 0
        self._unconfirmed: OrderedDict[int, Publication] = OrderedDict()
        self._to_repeat: deque[int] = deque()  # of these, what the new connection has no room for
        self._last_mid = LAST_MID
        self._topics: dict[bytes, str] = {}
        self._has_news = False
        self._wake_connection: Callable[[], None] = lambda: None
        self.is_overrun = False  # some arrivals did not fit: MQTT has to send them again
        self.is_holding = False  # nothing more is taken in
        self.overruns = 0
        self.oversize = 0  # messages of which only the begin was kept: they will be refused
        self.lost_qos0 = 0  # messages that no redelivery brings back: their sender chose QoS 0

    # ---- for the loop ---------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether messages can arrive now."""
        return self._lane is not None

    def poll(self) -> Confirmed | None:
        """The next confirmation, oldest first."""
        return self._confirmed.popleft() if self._confirmed else None

    def acknowledge(self, arrivals: Iterable[Arrival]) -> None:
        """Tell the MQTT broker that these are ours; those of another connection it will resend.

        It leaves with the next `flush`.
        """
        with self._lock:
            pubacks = [
                packets.puback(arrival.mid)
                for arrival in arrivals
                if arrival.qos and arrival.epoch == self._epoch
            ]
            if self._lane is not None and pubacks:
                self._send(b"".join(pubacks))

    def say(self, publication: Publication, *, behind: Arrival | None = None) -> bool:
        """Send something at QoS 0 on this connection or never; False: not sent.

        Args:
            publication: what.
            behind: only on the connection that this came on, so that the MQTT broker has taken
                its acknowledgement, and all before it, when it takes this.
        """
        with self._lock:
            is_fit = behind is None or behind.epoch == self._epoch
            if self._lane is None or not is_fit:
                return False
            topic, payload, retain = publication
            self._send(packets.say(topic, payload, is_retained=retain, v5=self._v5))
        return True

    def publish(self, publication: Publication) -> int:
        """Hand a publication over; a `Confirmed` with the returned mid follows.

        It leaves with the next `flush`.
        """
        with self._lock:
            mid = self._free_mid()
            self._unconfirmed[mid] = publication
            if self._lane is not None:
                self._send(self._packed(mid, publication))
        return mid

    def flush(self) -> None:
        """Send what was acknowledged and published, in one call."""
        lane = self._lane
        if lane is None or not lane.has_unsent:
            return
        is_sent = False
        if lane.may_flush_anywhere:
            with contextlib.suppress(OSError):  # the connection's own thread will find out
                is_sent = lane.flush()
        if not is_sent:
            self._wake_connection()

    def _send(self, packet: bytes) -> None:
        assert self._lane is not None
        try:
            self._lane.send(packet)
        except ConnectionError:
            return  # it was closed just now

    def _packed(self, mid: int, publication: Publication, *, is_dup: bool = False) -> bytes:
        return packets.publish(
            publication.topic,
            publication.payload,
            mid,
            is_retained=publication.retain,
            is_dup=is_dup,
            v5=self._v5,
        )

    def _free_mid(self) -> int:
        # the outbox keeps far fewer in flight than there are ids
        while True:
            self._last_mid = FIRST_MID if self._last_mid == LAST_MID else self._last_mid + 1
            if self._last_mid not in self._unconfirmed:
                return self._last_mid

    # ---- for the connection's thread ----------------------------------------------------------

    def open(
        self,
        lane: Lane,
        *,
        v5: bool,
        wake_connection: Callable[[], None],
        most_inflight: int | None = None,
    ) -> None:
        """A connection stands: send again what the last one left unconfirmed.

        Args:
            lane: of the connection.
            v5: whether it speaks MQTT 5.
            wake_connection: has its thread look at what is to be sent.
            most_inflight: so many publications the MQTT broker takes at once; None: any number.
        """
        with self._lock:
            self._v5 = v5
            self._lane = lane
            lane.is_welcome = True
            self._wake_connection = wake_connection
            self._to_repeat = deque(self._unconfirmed)
            for _ in range(most_inflight or len(self._to_repeat)):
                self._repeat_next()

    def _repeat_next(self) -> None:
        if self._to_repeat and self._lane is not None:
            mid = self._to_repeat.popleft()
            self._send(self._packed(mid, self._unconfirmed[mid], is_dup=True))

    def close(self) -> None:
        """The connection is gone: what it brought can't be acknowledged any more."""
        with self._lock:
            self._lane = None
            self._epoch += 1

    def begin(self) -> None:
        """A new connection is tried: what did not fit into the intake comes again on it."""
        self.is_overrun = False

    def tell(self) -> None:
        """Wake the loop, once for all that came with one read."""
        if self._has_news:
            self._has_news = False
            self._wake()

    def published(self, packet: packets.Publish) -> None:
        """An arrival: it is only enqueued."""
        if packet.topic == self._private_topic or (
            self._private_prefix and packet.topic.startswith(self._private_prefix)
        ):
            self._on_private(packet)
            return
        self.oversize += packet.is_cut
        if self.is_overrun or self.is_holding:
            # unacknowledged: it comes again after the reconnect, unless it was sent with QoS 0
            self.lost_qos0 += packet.qos == 0
            return
        arrival = Arrival(
            self._topic(packet.topic),
            packet.payload,
            packet.mid,
            packet.qos,
            self._epoch,
            time.monotonic(),
            packet.is_dup,
        )
        if self._intake.put(arrival):
            self._has_news = True
        else:
            self.is_overrun = True
            self.overruns += 1
            self.lost_qos0 += packet.qos == 0

    def confirmed(self, mid: int, reason: int) -> bool:
        """A PUBACK came; False: it is none of ours."""
        with self._lock:
            if self._unconfirmed.pop(mid, None) is None:
                return mid >= FIRST_MID  # a repeated one of ours: nobody waits for it any more
            if self._to_repeat:
                self._repeat_next()
        refusal = None
        if reason >= FIRST_FAILURE:
            refusal = _REASONS.get(reason, f"reason code 0x{reason:02X}")
        self._confirmed.append(Confirmed(mid, refusal))
        self._has_news = True
        return True

    def _topic(self, name: bytes) -> str:
        topic = self._topics.get(name)
        if topic is None:
            # an MQTT broker refuses what is no UTF-8; should one not, the topic is a foreign one
            topic = name.decode("utf-8", "backslashreplace")
            if len(topic) <= MAX_CACHED_TOPIC_CHARS:
                if len(self._topics) >= MAX_CACHED_TOPICS:
                    self._topics.clear()
                self._topics[name] = topic
        return topic
