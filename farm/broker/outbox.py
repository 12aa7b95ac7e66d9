"""The `Outbox`: answers on their way to MQTT, in order, few in flight, each until its PUBACK.

The MQTT link publishes what `next_to_send` gives. A publication that no broker could take is set
aside here, before it can wedge the client's queue for ever. While MQTT is away the answers wait in
the journal, and memory holds no more than the first of them.
"""

from __future__ import annotations

import functools
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from farm.broker.intake import MAX_CACHED_TOPIC_CHARS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from farm.adapter import Publication, Terminal

CONFIRMED_WITHIN_S = 1.0  # a PUBACK takes milliseconds, and 50 with a slow disk
KEPT_LETTERS = 1000  # about 2 MB; at 100 holes/s ten seconds of answers
MAX_TOPIC_BYTES = 65_535  # MQTT 5, section 1.5.4
MAX_TOPIC_LEVELS = 200  # mosquitto closes the connection beyond that
MAX_PACKET_BYTES = 268_435_455  # MQTT 5, section 1.5.5: what a length can say
MAX_CACHED_TOPICS = 20_000  # two of each of 10 000 tools
PACKET_OVERHEAD_BYTES = 64  # fixed header, mid, property length: far less than this


def defect(publication: Publication, max_packet_bytes: int | None) -> str | None:
    """Why MQTT could not take this publication, or None."""
    topic = publication.topic
    is_short = len(topic) <= MAX_CACHED_TOPIC_CHARS
    if reason := (_known_topic_defect if is_short else _topic_defect)(topic):
        return reason
    size = len(publication.payload) + len(topic.encode()) + PACKET_OVERHEAD_BYTES
    limit = MAX_PACKET_BYTES if max_packet_bytes is None else max_packet_bytes
    if size > limit:
        return f"it has {size} bytes and the MQTT broker takes {limit}"
    return None


def _topic_defect(topic: str) -> str | None:
    if not topic:
        return "its topic is empty"
    if any(c in "+#" or _is_unfit(c) for c in topic):
        return "its topic holds a wildcard or a character that MQTT brokers refuse"
    if topic.count("/") >= MAX_TOPIC_LEVELS:
        return f"its topic has more than {MAX_TOPIC_LEVELS} levels"
    topic_bytes = len(topic.encode())
    if topic_bytes > MAX_TOPIC_BYTES:
        return f"its topic has {topic_bytes} bytes, at most {MAX_TOPIC_BYTES}"
    return None


_known_topic_defect = functools.lru_cache(maxsize=MAX_CACHED_TOPICS)(_topic_defect)


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

    letter_id: int  # of the hole, or of the rejection; 0: not kept in the journal
    source: str
    part_id: str
    terminal: Terminal | None  # None: a rejected part, or news of the farm's own
    first_s: float
    last_s: float
    answered_s: float
    publications: tuple[Publication, ...] | None = None  # None: they wait on disk
    unsent: deque[int] = field(default_factory=deque)  # which of them are still to be handed over
    open: int = 0  # publications that are not confirmed
    refusals: list[str] = field(default_factory=list)


class Outbox:
    """See the module.

    Args:
        max_inflight: publications that may be unconfirmed at once.
        load: fetches the publications of a letter that waits on disk; may raise JournalError.
        is_input: whether a topic is one that we take in ourselves: an answer on it would come
            back, be answered, and so on for ever.
    """

    def __init__(
        self,
        *,
        max_inflight: int,
        load: Callable[[int], tuple[Publication, ...]] | None = None,
        is_input: Callable[[str], bool] = lambda _topic: False,
    ) -> None:
        self._is_input = is_input
        self._is_known_input = functools.lru_cache(maxsize=MAX_CACHED_TOPICS)(is_input)
        self.loops = 0  # publications that would have come back in
        self._configured = max_inflight
        self._max_inflight = max_inflight
        self._load = load
        self.max_packet_bytes: int | None = None  # what the MQTT broker said it takes
        self._queue: OrderedDict[int, Letter] = OrderedDict()  # by identity: those with unsent ones
        self._inflight: dict[int, tuple[Letter, int]] = {}
        self._unconfirmed = 0
        self._set_aside: list[Letter] = []

    def __len__(self) -> int:
        """Publications that are not confirmed yet."""
        return self._unconfirmed

    def late(self, now_s: float) -> int:
        """How many holes wait for their confirmation longer than a healthy broker lets them."""
        return len(
            {
                id(letter)
                for letter in self._letters()
                if letter.terminal is not None and now_s - letter.answered_s > CONFIRMED_WITHIN_S
            }
        )

    def oldest_s(self, now_s: float) -> float:
        """How long the oldest unconfirmed publication has been waiting; 0 without any."""
        return max((now_s - letter.answered_s for letter in self._letters()), default=0.0)

    @property
    def inflight(self) -> int:
        """Publications that were handed over and are not confirmed."""
        return len(self._inflight)

    @property
    def in_memory(self) -> int:
        """Letters that wait with their publications in memory."""
        return sum(letter.publications is not None for letter in self._queue.values())

    def limit(self, max_inflight: int | None) -> None:
        """The MQTT broker of this connection takes no more than this many at once; None: any."""
        self._max_inflight = min(self._configured, max_inflight or self._configured)

    def add(self, publications: tuple[Publication, ...], letter: Letter) -> bool:
        """Queue a letter. True: it is complete at once, since there is nothing to send."""
        may_wait_on_disk = self._load is not None and letter.letter_id
        if not (may_wait_on_disk and len(self._queue) >= KEPT_LETTERS):
            letter.publications = publications
        return self.add_found(letter, len(publications))

    def add_found(self, letter: Letter, count: int) -> bool:
        """Queue a letter whose publications are on disk. True: it has none."""
        letter.unsent.extend(range(count))
        letter.open = count
        self._unconfirmed += count
        if count:
            self._queue[id(letter)] = letter
        return count == 0

    def next_to_send(self) -> Publication | None:
        """The next publication, while fewer than the limit are in flight.

        One that MQTT could not take is set aside, see `take_set_aside`.

        Raises:
            JournalError: it waits on disk and can't be read now; later perhaps.
        """
        while self._queue and len(self._inflight) < self._max_inflight:
            letter = next(iter(self._queue.values()))
            if letter.publications is None:
                assert self._load is not None  # else it would have been kept
                letter.publications = self._load(letter.letter_id)
            publication = letter.publications[letter.unsent[0]]
            reason = self._defect(publication)
            if reason is None:
                return publication
            self._take_off(letter)
            if finished := self._close(letter, f"not publishable: {reason}"):
                self._set_aside.append(finished)
        return None

    def _defect(self, publication: Publication) -> str | None:
        if reason := defect(publication, self.max_packet_bytes):
            return reason
        topic = publication.topic
        is_short = len(topic) <= MAX_CACHED_TOPIC_CHARS
        if (self._is_known_input if is_short else self._is_input)(topic):
            self.loops += 1
            return "its topic is one that the farm takes in itself: it would answer its own answers"
        return None

    def take_set_aside(self) -> list[Letter]:
        """The letters that are complete since their last publication could not be sent."""
        taken, self._set_aside = self._set_aside, []
        return taken

    def sent(self, mid: int) -> None:
        """The publication of `next_to_send` was handed over under this message id."""
        former = self._inflight.pop(mid, None)
        letter = next(iter(self._queue.values()))
        self._inflight[mid] = (letter, self._take_off(letter))
        if former is not None:  # a client that gives an id anew has forgotten who had it
            forgotten, number = former
            forgotten.unsent.appendleft(number)
            self._queue[id(forgotten)] = forgotten
            self._queue.move_to_end(id(forgotten), last=False)

    def confirmed(self, mid: int, refusal: str | None) -> Letter | None:
        """A PUBACK came. Returns the letter when this was its last publication."""
        found = self._inflight.pop(mid, None)
        if found is None:
            return None
        reason = None if refusal is None else f"refused by the MQTT broker: {refusal}"
        return self._close(found[0], reason)

    def _take_off(self, letter: Letter) -> int:
        """The first unsent publication of a letter is sent, or never will be."""
        number = letter.unsent.popleft()
        if not letter.unsent:
            del self._queue[id(letter)]
        return number

    def _close(self, letter: Letter, refusal: str | None) -> Letter | None:
        self._unconfirmed -= 1
        letter.open -= 1
        if refusal is not None:
            letter.refusals.append(refusal)
        return letter if letter.open == 0 else None

    def _letters(self) -> Iterator[Letter]:
        yield from (letter for letter, _ in self._inflight.values())
        yield from self._queue.values()
