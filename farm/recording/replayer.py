"""The `Replayer`: publishes the messages of a recording, and hears what is answered.

A shell around `player` (what is due when), `renewal` (under which ids) and `answers`. It keeps a
window of messages that the MQTT broker has not acknowledged yet, and nothing else in memory but a
line for each hole.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from farm.recording.answers import AnswerBook, HoleKey
from farm.recording.expected import Sent
from farm.recording.player import plan
from farm.recording.renewal import Renewal
from farm.recording.results import Results
from farm.simulation.mqtt import BrokerAddress, MqttLink
from farm.simulation.units import STALL_S

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from farm.recording.faults import Faults
    from farm.recording.player import Shot
    from farm.recording.record import Message
    from farm.recording.traffic import Key, Traffic
    from farm.simulation.mqtt import PublishCount

LOOK_S: Final = 0.1
LINGER_S: Final = 1.0  # after the last answer, for one that nobody expects
WINDOW: Final = 200
OUTAGE_S: Final = 60.0  # without any acknowledgement, after which the MQTT broker is given up


@dataclass(slots=True)
class Played:
    """How far a replay is.

    Attributes:
        messages: that were given to the connection, copies included.
        copies: messages that were sent a second time.
        dropped: messages that a fault left out.
        max_late_s: how far it fell behind its schedule at worst.
        is_done: all of the recording was played.
    """

    messages: int = 0
    copies: int = 0
    dropped: int = 0
    max_late_s: float = 0.0
    is_done: bool = False


_NO_KINDS: Final[frozenset[str]] = frozenset()


@dataclass(slots=True)
class _Of:
    """A hole that is replayed."""

    published: Key
    nth: int  # among the answers to that key
    recorded: frozenset[str] = _NO_KINDS
    sent: frozenset[str] = _NO_KINDS


class Replayer:
    """See the module.

    Args:
        address: the MQTT broker.
        traffic: what the messages are about.
        speed: see `player.plan`.
        faults: what is to happen to them.
        seed: of the faults.
        first_id: see `Renewal`.
        window: messages on the way to the broker at once.
        hears: subscribe to the answers.
        outage_s: how long an outage of the broker may last.

    Attributes:
        played: how far it is; may be read by any thread.
        stalled_s: for how long the next message has waited without any acknowledgement.
        is_given_up: the broker acknowledged nothing for too long.
        ended: set when `run` is over.
    """

    def __init__(
        self,
        address: BrokerAddress,
        traffic: Traffic,
        *,
        speed: float,
        faults: Faults,
        seed: int,
        first_id: int | None,
        window: int = WINDOW,
        hears: bool = False,
        outage_s: float = OUTAGE_S,
    ) -> None:
        self.stalled_s = 0.0
        self.is_given_up = False
        self._outage_s = outage_s
        self._acknowledged_s = 0.0
        self.address = address
        self.played = Played()
        self.ended = threading.Event()
        self.failure: BaseException | None = None
        self.renewal = Renewal(traffic, first_id=first_id)
        self.traffic = traffic
        self._speed, self._faults, self._rng = speed, faults, Random(seed)
        self._stop = threading.Event()
        self._gave_up = threading.Event()
        self._holes: dict[HoleKey, _Of] = {}
        self._names: dict[Key, list[HoleKey]] = {}  # the holes that were published under a key
        self._kinds: dict[frozenset[str], frozenset[str]] = {}  # each set of them, kept once
        self._book = AnswerBook(traffic, self._name_of)
        self._lock = threading.Lock()  # of the book
        self._heard_s = 0.0
        self._room = threading.Semaphore(window)
        self._window = window
        self._link = MqttLink(address, name="farm-replay", on_acknowledged=self._on_acknowledged)
        self._ear = (
            MqttLink(
                address,
                name="farm-replay-ear",
                filters=traffic.answer_filters,
                on_message=self._on_answer,
            )
            if hears
            else None
        )

    def connect(self) -> None:
        """Connect, and subscribe to the answers.

        Raises:
            MqttError: the broker can't be reached or refuses us.
        """
        if self._ear is not None:
            self._ear.connect()
        self._link.connect()

    def close(self) -> None:
        """Disconnect."""
        self._link.close()
        if self._ear is not None:
            self._ear.close()

    def run(self, messages: Iterable[Message]) -> None:
        """Publish them all, then wait until the broker has them. For a thread of its own.

        What goes wrong with the recording meanwhile is in `failure` afterwards.
        """
        try:
            self._publish_all(messages)
            if not self.is_given_up:
                self._link.drain(STALL_S)
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits
            self.failure = error
        finally:
            self.ended.set()

    def stop(self) -> None:
        """Publish nothing more. May be called from a signal handler."""
        self._stop.set()

    def give_up(self) -> None:
        """Wait for no answer any more. May be called from a signal handler."""
        self._stop.set()
        self._gave_up.set()

    def counts(self) -> PublishCount:
        """What the broker said."""
        return self._link.counts()

    # ---- publishing ---------------------------------------------------------------------------

    def _publish_all(self, messages: Iterable[Message]) -> None:
        begin_s = time.monotonic()
        shots = plan(
            map(self.renewal.renew, messages),
            speed=self._speed,
            elapsed_s=lambda: time.monotonic() - begin_s,
            faults=self._faults,
            rng=self._rng,
        )
        for shot in shots:
            due_s = begin_s + shot.due_s
            if self._stop.wait(max(0.0, due_s - time.monotonic())) or self._link.is_refused:
                return
            if not self._wait_for_room():
                return
            self._send(shot, due_s)
        self.played.is_done = True

    def _wait_for_room(self) -> bool:
        """Whether the broker takes one more before it has acknowledged another."""
        begin_s = time.monotonic()
        while not self._room.acquire(timeout=LOOK_S):
            if self._stop.is_set() or self._link.is_refused:
                return False
            self.stalled_s = time.monotonic() - max(begin_s, self._acknowledged_s)
            if self.stalled_s > self._outage_s:
                self.is_given_up = True
                return False
        self.stalled_s = 0.0
        return True

    def _send(self, shot: Shot, due_s: float) -> None:
        message, hole = shot.part
        if hole is not None and self._ear is not None:
            key = HoleKey(*hole.key, hole.nth)
            self._note(key, (hole.key[0], hole.new_id), shot)
        if shot.is_dropped:
            self.played.dropped += 1
            self._room.release()
            return
        self.played.max_late_s = max(self.played.max_late_s, time.monotonic() - due_s)
        self.played.messages += 1
        self.played.copies += shot.is_copy
        self._link.publish(message.topic, message.payload, self)

    def _note(self, key: HoleKey, published: Key, shot: Shot) -> None:
        route = self.traffic.route(shot.part.message.topic)
        assert route is not None  # else it would be of no hole
        of = self._holes.get(key)
        if of is None:
            with self._lock:
                names = self._names.setdefault(published, [])
                names.append(key)
                of = self._holes[key] = _Of(published, len(names))
        of.recorded = self._with(of.recorded, route.kind)
        if not shot.is_dropped:
            of.sent = self._with(of.sent, route.kind)

    def _with(self, kinds: frozenset[str], kind: str) -> frozenset[str]:
        more = kinds | {kind}
        return self._kinds.setdefault(more, more)

    def _on_acknowledged(self, _token: object) -> None:
        self._acknowledged_s = time.monotonic()
        self._room.release()

    # ---- hearing ------------------------------------------------------------------------------

    def wait_answers(
        self,
        expected: Collection[HoleKey] | None,
        *,
        patience_s: float,
        on_progress: Callable[[int, int], None] = lambda _answered, _awaited: None,
    ) -> bool:
        """Wait until every hole that must be is answered.

        Args:
            expected: holes with an answer to expect; None: all are.
            patience_s: give up after so long without any answer.
            on_progress: is told how many are answered, and how many are to be.

        Returns:
            Whether all are.
        """
        with self._lock:
            self._heard_s = time.monotonic()
        awaited = [of for key, of in self._holes.items() if self._is_awaited(key, of, expected)]
        total = len(awaited)
        while not self._gave_up.is_set():
            with self._lock:
                awaited = [of for of in awaited if not self._is_answered(of)]
                quiet_s = time.monotonic() - self._heard_s
            on_progress(total - len(awaited), total)
            if quiet_s > (patience_s if awaited else LINGER_S):
                return not awaited
            time.sleep(LOOK_S)
        return not awaited

    def results(self) -> Results:
        """What was answered so far, under the recorded names."""
        with self._lock:
            return Results(self._book.results(), self._book.refusals.copy())

    def sent(self) -> dict[HoleKey, Sent]:
        """What was published of each hole."""
        with self._lock:
            return {key: Sent(of.sent, of.recorded) for key, of in self._holes.items()}

    def _is_awaited(self, key: HoleKey, of: _Of, expected: Collection[HoleKey] | None) -> bool:
        required = self.traffic.required
        if not required & of.sent:
            return False
        return expected is None or key in expected or not required <= of.sent

    def _is_answered(self, of: _Of) -> bool:
        return self._book.is_answered(of.published, of.nth)

    def _name_of(self, published: Key, nth: int) -> HoleKey:
        names = self._names.get(published, ())
        return names[nth - 1] if nth <= len(names) else HoleKey(*published, nth)

    def _on_answer(self, topic: str, payload: bytes) -> None:
        with self._lock:
            self._heard_s = time.monotonic()
            self._book.take(topic, payload, self._heard_s)
