"""The `Reception`: from a message as it came over MQTT to what it means for holes.

Routes it, finds its id in the raw bytes, has it written to the journal and offers it to the
correlator. What comes of it are the correlator's events; a message without a usable id is `Refused`
as well. Owns what waits for partners, over the farm's stops and starts.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from farm.adapter import Need
from farm.broker.buffer import Part, fingerprint
from farm.broker.correlator import Correlator, Event, Refused, Rules
from farm.errors import ReadError
from farm.journal.records import Closed, Message, Watermark

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping

    from farm.adapter import Route
    from farm.broker.guard import GuardedAdapter
    from farm.broker.tools import Tools
    from farm.clock import WallClock
    from farm.config import Config
    from farm.journal.journal import Recorder
    from farm.journal.recovery import Found
    from farm.partition import Share

# Two dead connections in a row, each noticed after one and a half of these at the latest.
REDELIVERY_KEEPALIVES = 3.0


class Reception:
    """See the module. `intake_s` is read off the `IntakeClock`, all else is monotonic.

    Args:
        config: all of it.
        adapter: the traffic, guarded.
        needs: its kinds of part.
        journal: where messages are kept.
        clock: tells UTC.
        new_id: gives ids to messages; they rise.
        counts: raised here: parts, foreign_topics, of_another_partition.
        tools: what came from each is counted there.
        share: says which tools are this partition's; None: all are.
    """

    def __init__(
        self,
        config: Config,
        adapter: GuardedAdapter,
        needs: Mapping[str, Need],
        *,
        journal: Recorder,
        clock: WallClock,
        new_id: Callable[[], int],
        counts: Counter[str],
        tools: Tools,
        share: Share | None = None,
    ) -> None:
        self._share = share
        self._adapter = adapter
        self._journal = journal
        self._clock = clock
        self._new_id = new_id
        self._counts = counts
        self._most_bytes = config.limits.message_bytes
        self._tools = tools
        self._watermark = 0
        self._is_suspended = False
        self.optional_kinds = tuple(k for k, need in needs.items() if need is Need.OPTIONAL)
        self.rules = rules_of(config)
        self.correlator = Correlator(needs, self.rules)

    def take(
        self, topic: str, payload: bytes, *, arrived_s: float, intake_s: float, is_redelivered: bool
    ) -> list[Event]:
        """One message from MQTT; it may be acknowledged once the journal is where it is now."""
        route = self._adapter.route(topic)
        if route is None:
            self._counts["foreign_topics"] += 1
            return []
        if self._share is not None and not self._is_ours(self._share, route, payload):
            self._counts["of_another_partition"] += 1
            return []
        self._counts["parts"] += 1
        self.correlator.tally[route.kind, "received"] += 1
        self._tools.part(route.source, arrived_s)
        message_id, crc = self._new_id(), zlib.crc32(payload)
        part_id, reason = self._identify(route, payload)
        at_s = self._clock.at(arrived_s)
        message = Message(
            *(message_id, at_s, route.kind, route.source, part_id, topic, payload, crc, reason)
        )
        if reason:
            is_large = len(payload) > self._most_bytes
            self.correlator.tally[route.kind, "too_large" if is_large else "unreadable"] += 1
            self._journal.append(message)
            return [Refused(route.kind, (route.source, ""), reason, message_id)]
        part = Part(
            *(route.kind, route.source, part_id, payload, intake_s, message_id),
            *(is_redelivered, crc),
        )
        events = self.correlator.offer(part)
        discarded = self.correlator.take_discarded()
        if not discarded:  # as nearly always
            self._journal.append(message)
            return events
        # of a mere repeat nothing is kept: a flood of them would push real holes off the disk
        is_kept = not any(each.is_repeat and each.message_id == message_id for each in discarded)
        if is_kept:
            self._journal.append(message)
        for each in discarded:
            if is_kept or each.message_id != message_id:
                self._journal.append(Closed(each.message_id, each.why))
        return events

    def expire(self, intake_s: float) -> list[Event]:
        """The joins whose time window is over."""
        events = self.correlator.tick(intake_s)
        self._close_discarded()
        return events

    def mark(self) -> None:
        """Tell the journal up to where no message waits for a partner. Call now and then."""
        if self._is_suspended:
            return  # the parts that wait are the journal's now, and we know of none any more
        oldest = self.correlator.oldest_message_id()
        mark = self._new_id() if oldest is None else oldest
        if mark > self._watermark:
            self._watermark = mark
            self._journal.append(Watermark(mark))

    def suspend(self, intake_s: float) -> list[Event]:
        """Before a stop. Parts that wait stay in the journal: their partners come to the next life.

        Without a journal their joins are given up.
        """
        events = self.correlator.release_complete(intake_s)
        if self._journal.is_durable:
            self.mark()
            self.correlator.hand_over()
            self._is_suspended = True
            return events
        reason = "the farm was stopped, and without a journal it keeps nothing that waits"
        return [*events, *self.correlator.flush(reason, intake_s)]

    def resume(self, found: Found) -> list[Event]:
        """After a start: what waited in the life before, and what that one remembered."""
        for past in found.past:
            prints = {kind: fingerprint(*values) for kind, values in past.prints.items()}
            key = (past.source, past.part_id)
            self.correlator.remember(key, age_s=past.age_s, fingerprints=prints)
        for each in found.newest:
            part = Part(each.kind, each.source, None, each.payload, 0.0, each.message_id)
            self.correlator.recall_optional(part)
        events: list[Event] = []
        for each in found.waiting:
            # their time window begins anew, when the intake opens: on its clock that is 0
            part = Part(each.kind, each.source, each.part_id, each.payload, 0.0, each.message_id)
            events += self.correlator.offer(part)
        self._close_discarded()
        return events

    def _is_ours(self, share: Share, route: Route, payload: bytes) -> bool:
        if not share.asks_for_id:  # as nearly always
            return share.owns(route.source)
        part_id, _ = self._identify(route, payload)
        return share.takes(route.source, part_id)

    def _identify(self, route: Route, payload: bytes) -> tuple[str | None, str]:
        """The part's id, and why it has no usable one ("" where it has, or needs none)."""
        try:
            return self._adapter.part_id(route.kind, payload), ""
        except ReadError as error:
            return None, str(error)

    def _close_discarded(self) -> None:
        for each in self.correlator.take_discarded():
            self._journal.append(Closed(each.message_id, each.why))


def rules_of(config: Config) -> Rules:
    """The correlator's rules, as configured."""
    listener, correlation = config.mqtt.listener, config.correlation
    return Rules(
        time_window_s=listener.time_window,
        duplicate_window_s=listener.duplicate_time_window,
        duplicate_handling=listener.duplicate_handling,
        optional_parts=correlation.optional_parts,
        optional_wait_s=correlation.optional_wait_s,
        max_parts=listener.max_buffer_size,
        max_parts_per_source=correlation.max_parts_per_source,
        max_bytes=config.overload.memory_bytes,
        redelivery_window_s=listener.time_window
        + REDELIVERY_KEEPALIVES * config.mqtt.broker.keepalive,
    )
