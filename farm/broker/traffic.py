"""The `Traffic`: what comes over MQTT goes into the flow, what the flow has for MQTT goes out.

It carries between the link's thread and the loop, in the order that nothing may be lost by: a
message is acknowledged when the journal has it, an answer leaves when it is recorded. What the
partitions of a group tell each other travels the same way. Decides nothing about holes.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from farm import failpoints, log
from farm.broker.mqtt import Down, Evicted, Up
from farm.errors import ExitCode
from farm.journal.journal import Journal

if TYPE_CHECKING:
    from farm.broker.ending import Ending
    from farm.broker.group import Group
    from farm.broker.intake import Arrival
    from farm.broker.parts import Parts
    from farm.gathering import Gathering

ARRIVALS_PER_TURN = 200  # so that results and control get their turn under a flood


class Traffic:
    """See the module. For the loop's thread."""

    def __init__(self, parts: Parts, *, ending: Ending, gathering: Gathering) -> None:
        self._config = parts.config
        self._flow = parts.flow
        self._journal = parts.journal
        self._link = parts.link
        self._intake = parts.intake
        self._clock = parts.clock
        self._wall = parts.wall
        self._waker = parts.waker
        self._group = parts.group
        self._said = parts.said
        self._ending = ending
        self._gathering = gathering
        self._log = log.get()
        self._limited = log.Limited()
        self._unacknowledged: deque[tuple[int, Arrival]] = deque()  # after which position each
        self._leaving: list[str] = []  # failpoints of what leaves with the next flush
        self._state: dict[str, Any] = {"state": "connecting", "reconnects": 0, "retakes": 0}
        self._was_connected = False
        self.is_paused = False  # by an operator

    # ---- in ------------------------------------------------------------------------------------

    def take(self) -> None:
        """Take in what the link has: news of the connection, confirmations, messages."""
        while (event := self._link.poll_event()) is not None:
            match event:
                case Up():
                    self._note_up(event)
                case Down(reason):
                    self._note_down(reason)
                case Evicted():
                    self._log.error(
                        "mqtt_evicted",
                        cause="another client connected with our MQTT client id",
                        cure="give each farm its own mqtt.broker.client_id or state directory",
                    )
                    self._ending.fail(ExitCode.MQTT_EVICTED)
        if self._group is not None:
            self._hear_group(self._group)
        while (confirmed := self._link.exchange.poll()) is not None:
            if letter := self._flow.outbox.confirmed(confirmed.mid, confirmed.refusal):
                self._flow.delivered(letter, time.monotonic())
        self._take_arrivals()

    def _note_up(self, event: Up) -> None:
        self._flow.outbox.max_packet_bytes = event.max_packet_bytes
        self._flow.outbox.limit(event.most_inflight)
        if self._was_connected:
            self._state["retakes" if event.is_wanted else "reconnects"] += 1
        self._was_connected = True
        self._state.update(state="connected", protocol=event.protocol, reason="")
        if self._group is not None:
            self._group.connected(time.monotonic())
        self._log.info(
            "mqtt_connected", protocol=event.protocol, session_present=event.session_present
        )

    def _note_down(self, reason: str) -> None:
        self._state.update(state="disconnected", reason=reason)
        if self._group is not None:
            self._group.disconnected()
        if not self._ending.is_due:
            self._limited.warning(
                "mqtt_disconnected", reason=reason, address=self._address, next="trying again"
            )

    def _take_arrivals(self) -> None:
        now_s = time.monotonic()
        is_open = self._link.connected and self._takes_in
        self._clock.set_open(now_s, is_open=is_open)
        for _ in range(ARRIVALS_PER_TURN):
            if not self._takes_in:
                return
            arrival = self._intake.take()
            if arrival is None:
                return
            failpoints.reach(failpoints.RECEIVED)
            self._gathering.came(1)
            now_s = time.monotonic()
            if log.is_debug():
                self._note_arrival(arrival)
            if self._group is not None and arrival.topic == self._group.stream:
                known = self._flow.correlator.known_keys
                self._group.arrived(arrival.payload, known, self._wall.utc())
            else:
                self._flow.arrived(
                    arrival.topic,
                    arrival.payload,
                    arrived_s=arrival.arrived_s,
                    intake_s=self._clock.read(now_s),
                    now_s=now_s,
                    is_redelivered=arrival.is_redelivered,
                )
            self._unacknowledged.append((self._journal.position, arrival))
        self._waker.wake()

    def _note_arrival(self, arrival: Arrival) -> None:
        self._log.debug(
            "message_arrived",
            topic=arrival.topic,
            payload_bytes=len(arrival.payload),
            redelivered=arrival.is_redelivered,
        )

    @property
    def _takes_in(self) -> bool:
        is_held = self._group is not None and self._group.holds
        return not (self._ending.is_draining or self.is_paused or is_held or self._flow.is_full)

    # ---- out -----------------------------------------------------------------------------------

    def take_commits(self) -> None:
        """Acknowledge and publish what the journal has written by now."""
        if isinstance(self._journal, Journal) and self._journal.is_broken:
            self._ending.fail(ExitCode.JOURNAL)
        durable = self._journal.durable
        taken = []
        while self._unacknowledged and self._unacknowledged[0][0] <= durable:
            taken.append(self._unacknowledged.popleft()[1])
        if taken:
            failpoints.reach(failpoints.JOURNALED)
            self._link.exchange.acknowledge(taken)
            self._vow(taken)
            self._leaving.append(failpoints.ACKNOWLEDGED)
        self._flow.release(time.monotonic())

    def publish(self) -> None:
        """Give the link what the flow has to publish, as much as may be in flight."""
        # not `link.connected`: the limits that came with the connection must be in force first
        if not self.is_connected:
            return
        if self._link.wants_to_reconnect:
            if not self._flow.outbox.inflight:
                self._link.let_reconnect()
            return  # what is published now could not be confirmed any more
        while (publication := self._flow.publication(time.monotonic())) is not None:
            self._flow.outbox.sent(self._link.exchange.publish(publication))
            self._leaving.append(failpoints.PUBLISHED)

    def flush(self) -> None:
        """Send what this turn has acknowledged and published."""
        self._link.exchange.flush()
        for name in self._leaving:
            failpoints.reach(name)
        self._leaving.clear()

    # ---- the partitions of our group -----------------------------------------------------------

    def _hear_group(self, group: Group) -> None:
        """Take in what the partitions tell, and tell of this one."""
        now_s = time.monotonic()
        while self._said:
            packet = self._said.popleft()
            group.heard(packet.topic.decode("utf-8", "replace"), packet.payload, now_s)
        group.tick(now_s)
        if group.has_rival and not self._ending.is_due:
            self._log.error(
                "partition_runs_twice",
                cause=f"another farm is partition {group.index} of this group, for longer",
                cure="give each its own partition.index, and start each once",
            )
            self._ending.fail(ExitCode.MQTT_EVICTED)

    def _vow(self, taken: list[Arrival]) -> None:
        """Tell, behind the acknowledgement of a message about a cut, that it is."""
        group = self._group
        if group is None:
            return
        for arrival in taken:
            vow = group.vow(arrival.payload) if arrival.topic == group.stream else None
            if vow is not None and not self._link.exchange.say(vow, behind=arrival):
                group.unvow()

    # ---- what is told of it --------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """Whether MQTT is there, and the limits that came with the connection are in force."""
        return bool(self._state["state"] == "connected")

    @property
    def _address(self) -> str:
        broker = self._config.mqtt.broker
        return f"{broker.host}:{broker.port}"

    def mqtt(self) -> dict[str, Any]:
        """The connection, for the snapshot."""
        return {"address": self._address, **self._state}

    def intake(self) -> dict[str, Any]:
        """What comes in and waits, for the snapshot."""
        exchange = self._link.exchange
        return {
            "queued": len(self._intake),
            "payload_bytes": self._intake.payload_bytes,
            "braked": self._flow.is_full,
            "paused": self.is_paused,
            "unacknowledged": len(self._unacknowledged),
            "overruns": exchange.overruns,
            "oversize": exchange.oversize,
            "lost_qos0": exchange.lost_qos0,
        }
