"""The `Correlator`: which parts make one join, which are duplicates, which wait in vain.

A decision without I/O: it takes parts and a time and returns events. Rules:

* The key is (source, part id), valid inside the time window of *arrival*; ids restart and repeat.
* Required parts complete a join in any order. Optional ones bind by id where they have one, else
  to the join completed nearest to them; they are waited for briefly where the site sends them.
  Where none came, the newest of the source is taken.
* The complete joins of a source leave in the order in which they were completed.
* A part that repeats one seen inside the window byte for byte is a duplicate, always. One that
  differs is a duplicate inside `duplicate_time_window` (policy: ignore, replace, error) and the
  start of a new join after it; an optional one takes the place of the older.
* Nothing leaves silently: each part is paired, named in an event, or counted and named among the
  discarded. A join ends once: a required part that comes after its join was given up is refused,
  not a second error.
* What MQTT delivers again is known again for longer: a connection may be dead for a minute before
  that is noticed, and what was acknowledged in that time comes once more.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from farm.adapter import Need
from farm.broker.buffer import Join, Key, MessageBuffer, Part
from farm.broker.habits import Habits

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Rules:
    """The configured policy."""

    time_window_s: float = 30.0
    duplicate_window_s: float = 1.0
    duplicate_handling: str = "ignore"  # ignore | replace | error
    optional_parts: str = "auto"  # auto | always | never: whether to wait for them
    optional_wait_s: float = 0.5
    max_parts: int = 10_000
    max_parts_per_source: int = 500
    max_bytes: int = 512_000_000
    redelivery_window_s: float = 150.0  # at least time_window_s
    max_past: int = 50_000  # ended joins that are remembered


class Paired(NamedTuple):
    """A join is complete."""

    key: Key
    parts: Mapping[str, Part]
    first_s: float
    last_s: float

    @property
    def payloads(self) -> dict[str, bytes]:
        """The raw parts by kind."""
        return _payloads(self.parts)


class Unpaired(NamedTuple):
    """A join ends without its partners; `reason` is a sentence."""

    key: Key
    parts: Mapping[str, Part]
    reason: str
    first_s: float
    last_s: float

    @property
    def payloads(self) -> dict[str, bytes]:
        """The raw parts by kind."""
        return _payloads(self.parts)


class Refused(NamedTuple):
    """A part that is no use: a duplicate under the `error` policy, or too late for its join."""

    kind: str
    key: Key
    reason: str
    message_id: int = 0


class Discarded(NamedTuple):
    """A part that no hole needs, and why; no event names it."""

    message_id: int
    why: str
    is_repeat: bool = False  # byte for byte or by policy: nothing of it will ever be used


Event = Paired | Unpaired | Refused


@dataclass(slots=True)
class _Past:
    """What is remembered of an ended join: enough to know its parts, and its stragglers, again."""

    ended_s: float
    fingerprints: dict[str, int]


class Correlator:
    """See the module. `counts` holds: paired, duplicates, redelivered, replaced, late,
    optional_unused, and by the cause of giving up: expired, superseded, evicted, flushed.
    `tally` holds by kind how many messages were received and what became of them: paired, unpaired,
    duplicate, redelivered, replaced, late, unused, and of those that got no further than the
    reception: too_large, unreadable.
    """

    def __init__(self, needs: Mapping[str, Need], rules: Rules) -> None:
        self._rules = rules
        self._required = frozenset(k for k, need in needs.items() if need is Need.REQUIRED)
        self._optional = frozenset(needs) - self._required
        self.buffer = MessageBuffer()
        self._past: OrderedDict[Key, _Past] = OrderedDict()
        # by source: joins with all required parts ▶ until when to wait for optional ones
        self._complete: dict[str, OrderedDict[Key, float]] = defaultdict(OrderedDict)
        self._habits = Habits(
            rules.optional_parts, max_sources=rules.max_parts, max_bytes=rules.max_bytes
        )
        self._discarded: list[Discarded] = []
        self.counts: Counter[str] = Counter()
        self.tally: Counter[tuple[str, str]] = Counter()

    def offer(self, part: Part) -> list[Event]:
        """Take in a part; `part.arrived_s` is the time."""
        if part.part_id is None:
            return self._offer_loose(part)
        key = (part.source, part.part_id)
        join, past = self.buffer.get(key), self._past.get(key)
        if past is not None and not self._reaches(past, part):
            past = None
        if past is not None and self._repeats(past, part, is_open=join is not None):
            return self._duplicate(key, part)
        if past is not None and join is None and part.kind not in past.fingerprints:
            return self._too_late(key, past, part)
        events: list[Event] = []
        known = join.parts.get(part.kind) if join else None
        if join is not None and known is not None:
            if not self._starts_anew(known, part):
                return self._duplicate(key, part, join)
            if part.kind in self._required:
                why = f"another {part.kind} with the same id arrived"
                events = self._give_up(join, "superseded", why, part.arrived_s)
            else:
                self.tally[part.kind, "replaced"] += 1
                self._discard(known, f"another {part.kind} took its place")
        if part.kind in self._optional:
            self._habits.note(part)
        join = self.buffer.put(key, part)
        events.extend(self._advance(join, part.arrived_s))
        events.extend(self._enforce_bounds(part))
        return events

    def tick(self, now_s: float) -> list[Event]:
        """End what has waited long enough."""
        events: list[Event] = []
        for source in list(self._complete):
            events.extend(self._release(source, now_s))
        while (oldest := self.buffer.oldest()) is not None:
            if oldest.opened_s + self._rules.time_window_s > now_s:
                break
            missing = " and no ".join(sorted(self._required - oldest.parts.keys()))
            why = f"no {missing} arrived within {self._rules.time_window_s:g} s"
            events.extend(self._give_up(oldest, "expired", why, now_s))
        return events

    def forget(self, now_s: float) -> None:
        """Drop memories that are older than the time window."""
        while self._past:
            key, past = next(iter(self._past.items()))
            if past.ended_s + self._rules.redelivery_window_s > now_s:
                return
            del self._past[key]

    def known_keys(self) -> list[Key]:
        """Of the joins that wait, and of those that are remembered."""
        return [*(join.key for join in self.buffer.joins()), *self._past]

    def take_discarded(self) -> list[Discarded]:
        """The parts that were discarded since the last call."""
        taken, self._discarded = self._discarded, []
        return taken

    def remember(self, key: Key, *, age_s: float, fingerprints: dict[str, int]) -> None:
        """A join of a former life that ended `age_s` before that life did."""
        self._past[key] = _Past(-age_s, fingerprints)

    def recall_optional(self, part: Part) -> None:
        """The newest optional part of its source in a former life."""
        self._habits.recall(part)

    def release_complete(self, now_s: float) -> list[Event]:
        """Pair the joins that only wait for optional parts, now."""
        events: list[Event] = []
        for source in list(self._complete):
            events.extend(self._release(source, now_s, at_once=True))
        return events

    def oldest_message_id(self) -> int | None:
        """No part that waits is older than this one; None: no part waits."""
        oldest = self.buffer.oldest()
        return oldest.first_message_id if oldest is not None else None

    def hand_over(self) -> None:
        """The journal alone keeps the open parts from now on."""
        while (oldest := self.buffer.oldest()) is not None:
            self.buffer.pop(oldest.key)

    def flush(self, reason: str, now_s: float) -> list[Event]:
        """End every open join: complete ones are paired, the rest given up for `reason`."""
        events: list[Event] = []
        while (oldest := self.buffer.oldest()) is not None:
            events.extend(self._give_up(oldest, "flushed", reason, now_s))
        return events

    # ---- the life of a join ---------------------------------------------------------------

    def _advance(self, join: Join, now_s: float) -> list[Event]:
        """Let a join go when it is complete, and wait no more, behind those completed before."""
        kinds = join.parts.keys()
        if not kinds >= self._required:
            return []
        source = join.key[0]
        if not kinds >= self._optional:
            self._bind_loose(join, now_s)
        queue = self._complete[source]
        if kinds >= self._optional:
            self._habits.met(source)
            queue[join.key] = now_s
        else:
            wait_s = self._rules.optional_wait_s if self._habits.waits(source) else 0.0
            queue.setdefault(join.key, now_s + wait_s)
        return self._release(source, now_s)

    def _release(self, source: str, now_s: float, *, at_once: bool = False) -> list[Event]:
        """The complete joins of a source that wait no more; none overtakes an earlier one."""
        events: list[Event] = []
        while queue := self._complete.get(source):
            key, deadline_s = next(iter(queue.items()))
            if deadline_s > now_s and not at_once:
                break
            events.append(self._pair(key, now_s))
        return events

    def _pair(self, key: Key, now_s: float) -> Paired:
        join = self._end(key, now_s)
        parts, tally = join.parts, self.tally
        for kind in parts:
            tally[kind, "paired"] += 1
        if not parts.keys() >= self._optional:
            self._habits.missed(key[0])
            missing = self._optional - parts.keys()
            parts.update(self._habits.newest(key[0], missing))
        self.counts["paired"] += 1
        return Paired(key, parts, first_s=join.opened_s, last_s=join.last_s)

    def _give_up(self, join: Join, cause: str, reason: str, now_s: float) -> list[Event]:
        """End a join without its partners, unless it only waits for optional ones."""
        source = join.key[0]
        if join.key in self._complete.get(source, ()):
            return self._release(source, now_s, at_once=True)
        if not self._required & join.parts.keys():  # optional parts alone are no join
            self.buffer.pop(join.key)
            self.counts["optional_unused"] += 1
            for part in join.parts.values():
                self.tally[part.kind, "unused"] += 1
                self._discard(part, f"its hole never came: {reason}")
            return []
        self._end(join.key, now_s)
        self.counts[cause] += 1
        for kind in join.parts:
            self.tally[kind, "unpaired"] += 1
        present = " and ".join(sorted(join.parts))
        reason = f"Not paired: {reason} (present: {present})"
        return [Unpaired(join.key, dict(join.parts), reason, join.opened_s, join.last_s)]

    def _end(self, key: Key, now_s: float) -> Join:
        join = self.buffer.pop(key)
        assert join is not None  # who ends a join has just found it there
        queue = self._complete.get(key[0])
        if queue is not None:
            queue.pop(key, None)
            if not queue:
                del self._complete[key[0]]
        prints = {kind: part.fingerprint for kind, part in join.parts.items()}
        self._past[key] = _Past(now_s, prints)
        self._past.move_to_end(key)
        while len(self._past) > self._rules.max_past:
            self._past.popitem(last=False)
        return join

    def _enforce_bounds(self, part: Part) -> list[Event]:
        rules = self._rules
        events: list[Event] = []
        while self.buffer.parts_of(part.source) > rules.max_parts_per_source:
            knob = "correlation.max_parts_per_source"
            events.extend(self._evict(part.source, knob, part.arrived_s))
        while len(self.buffer) > rules.max_parts:
            events.extend(self._evict(None, "mqtt.listener.max_buffer_size", part.arrived_s))
        while self.buffer.payload_bytes > rules.max_bytes:
            events.extend(self._evict(None, "overload.memory_bytes", part.arrived_s))
        return events

    def _evict(self, source: str | None, knob: str, now_s: float) -> list[Event]:
        oldest = self.buffer.oldest(source)
        assert oldest is not None
        return self._give_up(oldest, "evicted", f"the buffer is full, raise {knob}", now_s)

    # ---- duplicates and stragglers --------------------------------------------------------

    def _reaches(self, past: _Past, part: Part) -> bool:
        """Whether an ended join is recent enough for the part to be of it."""
        rules = self._rules
        window_s = rules.redelivery_window_s if part.is_redelivered else rules.time_window_s
        return past.ended_s + window_s > part.arrived_s

    def _repeats(self, past: _Past, part: Part, *, is_open: bool) -> bool:
        """Whether the part belongs to an ended join that had one of its kind."""
        known = past.fingerprints.get(part.kind)
        if known is None or known == part.fingerprint:
            return known is not None
        # a differing part belongs rather to the join of the same id that is open now
        return not is_open and part.arrived_s - past.ended_s <= self._rules.duplicate_window_s

    def _starts_anew(self, known: Part, part: Part) -> bool:
        late = part.arrived_s - known.arrived_s > self._rules.duplicate_window_s
        return late and known.payload != part.payload

    def _duplicate(self, key: Key, part: Part, join: Join | None = None) -> list[Event]:
        """`join` is the open one that the part repeats; None: that one has ended."""
        if part.is_redelivered:  # nobody sent it twice
            self.counts["redelivered"] += 1
            self.tally[part.kind, "redelivered"] += 1
            self._discard(part, "MQTT delivered it again", is_repeat=True)
            return []
        self.counts["duplicates"] += 1
        is_newer_taken = self._rules.duplicate_handling == "replace" and join is not None
        self.tally[part.kind, "replaced" if is_newer_taken else "duplicate"] += 1
        if self._rules.duplicate_handling == "error":
            reason = f"Duplicate {part.kind} for result id {key[1]}"
            return [Refused(part.kind, key, reason, part.message_id)]
        if self._rules.duplicate_handling == "replace" and join is not None:
            self.counts["replaced"] += 1
            self._discard(join.parts[part.kind], f"another {part.kind} took its place")
            if part.kind in self._optional:
                self._habits.note(part)
            self.buffer.put(key, part)
            return self._enforce_bounds(part)
        self._discard(part, "a duplicate", is_repeat=True)
        return []

    def _too_late(self, key: Key, past: _Past, part: Part) -> list[Event]:
        """A part whose join ended without it."""
        past.fingerprints[part.kind] = part.fingerprint
        self.counts["late"] += 1
        self.tally[part.kind, "late"] += 1
        if part.kind in self._optional:
            self._habits.note(part)
            self._habits.met(part.source)  # had we waited, it would have been there
            self._discard(part, "it came after its hole was complete")
            return []
        reason = f"The {part.kind} for result id {key[1]} came after its hole had been given up"
        return [Refused(part.kind, key, reason, part.message_id)]

    def _discard(self, part: Part, why: str, *, is_repeat: bool = False) -> None:
        self._discarded.append(Discarded(part.message_id, why, is_repeat))

    # ---- optional parts without an id -------------------------------------------------------

    def _offer_loose(self, part: Part) -> list[Event]:
        """For the oldest complete join that lacks its kind, else for the next one."""
        self._habits.note(part)
        self._discard(part, "it names no hole: it serves the nearest one")
        for key in self._complete.get(part.source, ()):
            join = self.buffer.get(key)
            if join is not None and part.kind not in join.parts:
                return self._advance(join, part.arrived_s)
        return []

    def _bind_loose(self, join: Join, now_s: float) -> None:
        """Give a complete join what came without an id just before it, or just now."""
        since_s = now_s - self._rules.optional_wait_s
        missing = self._optional - join.parts.keys()
        for part in self._habits.take_loose(join.key[0], missing, since_s=since_s):
            self.buffer.put(join.key, part)


def _payloads(parts: Mapping[str, Part]) -> dict[str, bytes]:
    return {kind: part.payload for kind, part in parts.items()}
