"""The `Tally`: how much of what is in a recording. Counts alone, and bounded."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Final

from farm.recording.record import Gap, Message

if TYPE_CHECKING:
    from farm.recording.record import Note
    from farm.recording.traffic import Key, Traffic

MAX_TOOLS: Final = 10_000  # in the table; the rest is counted together
MAX_OPEN_HOLES: Final = 100_000  # whose other messages may still come
OTHERS: Final = "(others)"


class Tally:
    """See the module.

    Attributes:
        messages: of the traffic; `answers` are the farm's.
        payload_bytes: of both.
        holes: of which every required message was there.
        kinds: messages by kind; "" for those of no kind that the configuration knows.
        tools: messages by source.
        gaps: and `gap_ns`, how long they were in all.
        without_id: messages that name no hole.
    """

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self.messages = self.answers = self.payload_bytes = self.holes = 0
        self.gaps = self.gap_ns = self.notes = self.without_id = 0
        self.kinds: Counter[str] = Counter()
        self.tools: Counter[str] = Counter()
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self._open: OrderedDict[Key, set[str]] = OrderedDict()

    @property
    def span_s(self) -> float:
        """From the first message to the last."""
        if self.first_ns is None or self.last_ns is None:
            return 0.0
        return max(0, self.last_ns - self.first_ns) / 1e9

    def add(self, record: Message | Gap | Note) -> Key | None:
        """One more; the hole that is complete with it."""
        if isinstance(record, Gap):
            self.gaps += 1
            self.gap_ns += max(0, record.to_ns - record.at_ns)
        elif isinstance(record, Message):
            return self._add_message(record)
        else:
            self.notes += 1
        return None

    def _add_message(self, message: Message) -> Key | None:
        self.first_ns = min(self.first_ns or message.at_ns, message.at_ns)
        self.last_ns = max(self.last_ns or message.at_ns, message.at_ns)
        self.payload_bytes += len(message.payload)
        if message.is_answer:
            self.answers += 1
            return None
        self.messages += 1
        route = self._traffic.route(message.topic)
        self.kinds[route.kind if route else ""] += 1
        if route is None:
            return None
        known = route.source in self.tools or len(self.tools) < MAX_TOOLS
        self.tools[route.source if known else OTHERS] += 1
        part_id = self._traffic.part_id(route.kind, message.payload)
        if part_id is None:
            self.without_id += 1
        elif route.kind in self._traffic.required:
            return self._note((route.source, part_id), route.kind)
        return None

    def _note(self, key: Key, kind: str) -> Key | None:
        kinds = self._open.setdefault(key, set())
        kinds.add(kind)
        if kinds >= self._traffic.required:
            self.holes += 1
            del self._open[key]  # the same id again, after a head was changed, is another hole
            return key
        if len(self._open) > MAX_OPEN_HOLES:
            self._open.popitem(last=False)
        return None
