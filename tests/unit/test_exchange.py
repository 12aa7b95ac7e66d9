"""What goes over one MQTT connection after another: nothing acknowledged or published wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import farm.broker.exchange as exchange_module
from farm.adapter import Publication
from farm.broker import packets
from farm.broker.exchange import FIRST_MID, LAST_MID, Exchange
from farm.broker.intake import Arrival, Intake

if TYPE_CHECKING:
    import pytest

PRIVATE = "farm/private"


class Wire:
    """Stands for a lane: keeps what is sent."""

    has_unsent = True
    may_flush_anywhere = True

    def __init__(self, *, flushes: bool = True, is_broken: bool = False) -> None:
        self.sent: list[bytes] = []
        self.flushes = flushes
        self.is_broken = is_broken

    def send(self, packet: bytes) -> int:
        if self.is_broken:
            raise ConnectionError
        self.sent.append(packet)
        return len(packet)

    def flush(self) -> bool:
        return self.flushes


class House:
    """An exchange with all that it touches."""

    def __init__(self, *, max_messages: int = 100) -> None:
        self.intake = Intake(max_messages=max_messages, max_bytes=1_000_000)
        self.wakes = 0
        self.connection_wakes = 0
        self.private: list[packets.Publish] = []
        self.exchange = Exchange(
            self.intake, self._wake, private_topic=PRIVATE, on_private=self.private.append
        )

    def _wake(self) -> None:
        self.wakes += 1

    def _wake_connection(self) -> None:
        self.connection_wakes += 1

    def connect(
        self, wire: Wire | None = None, *, v5: bool = True, most_inflight: int | None = None
    ) -> Wire:
        wire = wire or Wire()
        self.exchange.begin()
        self.exchange.open(
            wire,  # type: ignore[arg-type]
            v5=v5,
            wake_connection=self._wake_connection,
            most_inflight=most_inflight,
        )
        return wire

    def arrive(self, mid: int, *, qos: int = 1, topic: bytes = b"t") -> None:
        self.exchange.published(packets.Publish(topic, b"x", mid, qos, False, False))

    def take(self) -> Arrival:
        arrival = self.intake.take()
        assert arrival is not None
        return arrival


ANSWER = Publication("a/b", b"{}")


def test_an_arrival_is_acknowledged_on_its_own_connection_only() -> None:
    """An old id acknowledged on a new connection: there it is a message that nobody has taken."""
    house = House()
    first = house.connect()
    house.arrive(7)
    house.arrive(8)
    house.exchange.acknowledge([house.take()])
    assert first.sent == [packets.puback(7)]
    late = house.take()
    house.exchange.close()
    house.exchange.acknowledge([late])
    second = house.connect()
    house.exchange.acknowledge([late])
    assert second.sent == []
    assert first.sent == [packets.puback(7)]


def test_qos_0_is_not_acknowledged() -> None:
    """A PUBACK for id 0, at which an MQTT broker closes the connection."""
    house = House()
    wire = house.connect()
    house.arrive(0, qos=0)
    house.exchange.acknowledge([house.take()])
    assert wire.sent == []


def test_what_is_unconfirmed_is_sent_again_under_the_same_id() -> None:
    """An answer lost with its connection; or a confirmed one that is sent twice."""
    house = House()
    house.connect()
    lost, kept = house.exchange.publish(ANSWER), house.exchange.publish(ANSWER)
    assert house.exchange.confirmed(kept, 0)
    house.exchange.close()
    offline = house.exchange.publish(Publication("c", b"later"))  # the loop may not know yet
    wire = house.connect(v5=False)
    assert wire.sent == [
        packets.publish("a/b", b"{}", lost, is_retained=False, v5=False, is_dup=True),
        packets.publish("c", b"later", offline, is_retained=False, v5=False, is_dup=True),
    ]


def test_no_more_is_sent_again_at_once_than_the_new_connection_takes() -> None:
    """A broker of a smaller limit that closes each connection over what the last one left."""
    house = House()
    house.connect()
    mids = [house.exchange.publish(ANSWER) for _ in range(5)]
    house.exchange.close()
    wire = Wire()
    house.connect(wire, most_inflight=2)
    assert len(wire.sent) == 2
    for number, mid in enumerate(mids):
        house.exchange.confirmed(mid, 0)
        assert len(wire.sent) == min(2 + number + 1, 5)
    again = [
        packets.publish("a/b", b"{}", m, is_retained=False, v5=True, is_dup=True) for m in mids
    ]
    assert wire.sent == again


def test_a_confirmation_is_told_once_with_its_reason() -> None:
    """`Not authorized` taken for success, or an answer counted twice."""
    house = House()
    house.connect()
    mids = [house.exchange.publish(ANSWER) for _ in range(3)]
    for mid, reason in zip(mids, (0, 0x10, 0x87), strict=True):
        assert house.exchange.confirmed(mid, reason)
    assert house.exchange.confirmed(mids[0], 0)  # again: ours, and nobody waits for it
    told = [house.exchange.poll() for _ in range(4)]
    assert [t and (t.mid, t.refusal) for t in told] == [
        (mids[0], None),
        (mids[1], None),
        (mids[2], "Not authorized"),
        None,
    ]


def test_what_the_client_has_sent_is_not_ours() -> None:
    """The confirmation of the farm's own status taken away from paho, which then waits for it."""
    house = House()
    house.connect()
    assert not house.exchange.confirmed(1, 0)


def test_ids_go_round_and_pass_over_those_in_flight() -> None:
    """An id given anew while its publication is unconfirmed: one of the two is forgotten."""
    house = House()
    house.connect()
    held = house.exchange.publish(ANSWER)
    seen = set()
    for _ in range(LAST_MID - FIRST_MID + 5):
        mid = house.exchange.publish(ANSWER)
        assert FIRST_MID <= mid <= LAST_MID
        assert mid != held
        seen.add(mid)
        house.exchange.confirmed(mid, 0)
    assert len(seen) == LAST_MID - FIRST_MID


def test_what_does_not_fit_stays_unacknowledged_until_the_next_connection() -> None:
    """An order turned round, or a message dropped: behind one that did not fit all come anew."""
    house = House(max_messages=2)
    house.connect()
    for mid in (1, 2, 3):
        house.arrive(mid)
    assert house.exchange.is_overrun
    assert (house.take().mid, house.take().mid) == (1, 2)
    house.arrive(4)  # there would be room, but 3 must not be overtaken
    house.arrive(0, qos=0)
    assert house.intake.take() is None
    assert (house.exchange.overruns, house.exchange.lost_qos0) == (1, 1)
    house.exchange.close()
    house.connect()
    house.arrive(3)
    assert house.take().mid == 3


def test_one_wake_up_for_all_that_came_with_one_read() -> None:
    """A system call for each message."""
    house = House()
    house.connect()
    for mid in range(1, 20):
        house.arrive(mid)
    house.exchange.tell()
    house.exchange.tell()
    assert house.wakes == 1


def test_a_message_on_the_private_topic_is_no_arrival() -> None:
    """A rival's mark taken for a hole's message."""
    house = House()
    house.connect()
    house.arrive(0, qos=0, topic=PRIVATE.encode())
    assert house.intake.take() is None
    assert [p.topic for p in house.private] == [PRIVATE.encode()]


def test_a_full_socket_is_left_to_its_thread() -> None:
    """Acknowledgements that wait for the next message before they leave."""
    house = House()
    house.connect(Wire(flushes=False))
    house.exchange.flush()
    assert house.connection_wakes == 1


def test_a_connection_that_is_going_down_harms_nobody() -> None:
    """The broker process ended by a PUBACK that can't be sent: it comes again anyway."""
    house = House()
    house.connect(Wire(is_broken=True))
    house.arrive(7)
    house.exchange.acknowledge([house.take()])
    mid = house.exchange.publish(ANSWER)
    house.exchange.close()
    assert len(house.connect().sent) == 1
    assert house.exchange.confirmed(mid, 0)


def test_a_topic_that_is_no_text_is_some_topic() -> None:
    """A thread that dies of one sender's bytes."""
    house = House()
    house.connect()
    house.arrive(1, topic=b"\xff\xfe")
    assert house.take().topic == "\\xff\\xfe"


def test_topics_without_end_or_measure_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender of ever new topics, or of 60 kB ones, at whose will the broker grows."""
    monkeypatch.setattr(exchange_module, "MAX_CACHED_TOPICS", 10)
    house = House()
    house.connect()
    for number in range(35):
        for topic in (f"tool-{number}", f"{number}" + "x" * 60_000):
            house.arrive(1, topic=topic.encode())
            assert house.take().topic == topic
    kept = house.exchange._topics
    assert 0 < len(kept) <= 10
    assert max(map(len, kept.values())) < 100


def test_what_is_said_behind_a_message_goes_with_its_connection_or_not_at_all() -> None:
    # prevents: a partition that vouches for acknowledgements which went down with a connection
    house = House()
    house.connect()
    arrival = Arrival("t", b"x", 1, 1, 0, 0.0)
    news = Publication("farm/said", b"yes", retain=True)
    house.exchange.close()
    assert not house.exchange.say(news)
    lane = house.connect()
    assert not house.exchange.say(news, behind=arrival)
    assert lane.sent == []
    assert house.exchange.say(news, behind=arrival._replace(epoch=1))
    assert lane.sent == [packets.say("farm/said", b"yes", is_retained=True, v5=True)]


def test_private_topics_pass_by_the_intake() -> None:
    # prevents: what partitions tell each other, counted as foreign traffic and held up behind it
    private: list[packets.Publish] = []
    intake = Intake(max_messages=10, max_bytes=1000)
    exchange = Exchange(
        *(intake, lambda: None), private_topic="p", on_private=private.append, private_prefix="q/"
    )
    for topic in (b"p", b"q/1", b"q", b"other"):
        exchange.published(packets.Publish(topic, b"", 0, 0, False, False))
    assert [packet.topic for packet in private] == [b"p", b"q/1"]
    assert len(intake) == 2
