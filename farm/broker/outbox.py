"""The `Outbox`: answers on their way to MQTT, in order, few in flight, each until its PUBACK.

A decision without I/O; the MQTT link publishes what `next_to_send` gives. A publication that no
broker could take is set aside here, before it can wedge the client's queue for ever.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.adapter import Publication, Terminal

CONFIRMED_WITHIN_S = 1.0  # a PUBACK takes milliseconds, and 50 with a slow disk
MAX_TOPIC_BYTES = 65_535  # MQTT 5, section 1.5.4
MAX_TOPIC_LEVELS = 200  # mosquitto closes the connection beyond that
MAX_PACKET_BYTES = 268_435_455  # MQTT 5, section 1.5.5: what a length can say
PACKET_OVERHEAD_BYTES = 64  # fixed header, mid, property length: far less than this


def defect(publication: Publication, max_packet_bytes: int | None) -> str | None:
    """Why MQTT could not take this publication, or None."""
    topic = publication.topic
    if not topic:
        return "its topic is empty"
    if any(c in "+#" or _is_unfit(c) for c in topic):
        return "its topic holds a wildcard or a character that MQTT brokers refuse"
    if topic.count("/") >= MAX_TOPIC_LEVELS:
        return f"its topic has more than {MAX_TOPIC_LEVELS} levels"
    topic_bytes = len(topic.encode())
    if topic_bytes > MAX_TOPIC_BYTES:
        return f"its topic has {topic_bytes} bytes, at most {MAX_TOPIC_BYTES}"
    size = len(publication.payload) + topic_bytes + PACKET_OVERHEAD_BYTES
    limit = MAX_PACKET_BYTES if max_packet_bytes is None else max_packet_bytes
    if size > limit:
        return f"it has {size} bytes and the MQTT broker takes {limit}"
    return None


def _is_unfit(character: str) -> bool:
    """Control characters, lone surrogates and non-characters: MQTT 5, section 1.5.4."""
    code = ord(character)
    return (
        code < 0x20
        or 0x7F <= code < 0xA0
        or 0xD800 <= code < 0xE000
        or 0xFDD0 <= code < 0xFDF0
        or code & 0xFFFE == 0xFFFE
    )


@dataclass(slots=True)
class Letter:
    """All publications of one finished join, or of one rejected part."""

    source: str
    part_id: str
    terminal: Terminal | None  # None: a rejected part, which is no join
    first_s: float
    last_s: float
    answered_s: float
    open: int = 0
    refusals: list[str] = field(default_factory=list)


class Outbox:
    """See the module."""

    def __init__(self, *, max_inflight: int) -> None:
        self._configured = max_inflight
        self._max_inflight = max_inflight
        self.max_packet_bytes: int | None = None  # what the MQTT broker said it takes
        self._queue: deque[tuple[Publication, Letter]] = deque()
        self._inflight: dict[int, tuple[Publication, Letter]] = {}

    def __len__(self) -> int:
        """Publications that are not confirmed yet."""
        return len(self._queue) + len(self._inflight)

    def late(self, now_s: float) -> int:
        """How many holes wait for their confirmation longer than a healthy broker lets them."""
        return len(
            {
                id(letter)
                for _, letter in chain(self._inflight.values(), self._queue)
                if letter.terminal is not None and now_s - letter.answered_s > CONFIRMED_WITHIN_S
            }
        )

    def oldest_s(self, now_s: float) -> float:
        """How long the oldest unconfirmed publication has been waiting; 0 without any."""
        waiting = chain(self._inflight.values(), self._queue)
        return max((now_s - letter.answered_s for _, letter in waiting), default=0.0)

    @property
    def inflight(self) -> int:
        """Publications that were handed over and are not confirmed."""
        return len(self._inflight)

    def limit(self, max_inflight: int | None) -> None:
        """The MQTT broker of this connection takes no more than this many at once; None: any."""
        self._max_inflight = min(self._configured, max_inflight or self._configured)

    def add(self, publications: tuple[Publication, ...], letter: Letter) -> bool:
        """Queue a letter. True: it is complete at once, since nothing of it can be sent."""
        for publication in publications:
            if reason := defect(publication, self.max_packet_bytes):
                letter.refusals.append(f"not publishable: {reason}")
            else:
                letter.open += 1
                self._queue.append((publication, letter))
        return letter.open == 0

    def next_to_send(self) -> Publication | None:
        """The next publication, while fewer than the limit are in flight."""
        if not self._queue or len(self._inflight) >= self._max_inflight:
            return None
        return self._queue[0][0]

    def sent(self, mid: int) -> None:
        """The publication of `next_to_send` was handed over under this message id."""
        former = self._inflight.pop(mid, None)
        self._inflight[mid] = self._queue.popleft()
        if former is not None:  # a client that gives an id anew has forgotten who had it
            self._queue.appendleft(former)

    def confirmed(self, mid: int, refusal: str | None) -> Letter | None:
        """A PUBACK came. Returns the letter when this was its last publication."""
        found = self._inflight.pop(mid, None)
        if found is None:
            return None
        letter = found[1]
        letter.open -= 1
        if refusal is not None:
            letter.refusals.append(f"refused by the MQTT broker: {refusal}")
        return letter if letter.open == 0 else None
