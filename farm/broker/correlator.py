"""The `Correlator`: which parts make one join, which are duplicates, which wait in vain.

A decision without I/O: it takes parts and a time and returns events. Rules:

* The key is (source, part id), valid inside the time window of *arrival*; ids restart and repeat.
* Required parts complete a join in any order. Optional ones bind by id where they have one, else
  the newest of the source is taken; they are waited for briefly where the site sends them.
* A part that repeats one seen inside the window byte for byte is a duplicate, always. One that
  differs is a duplicate inside `duplicate_time_window` (policy: ignore, replace, error) and the
  start of a new join after it.
* Nothing leaves silently: each part is paired, counted as a duplicate, or named in an event.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from farm.adapter import Need
from farm.broker.buffer import Join, Key, MessageBuffer, Part

# A source that sent no optional part for this many joins is no longer waited for.
PATIENCE_JOINS = 3


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


@dataclass(frozen=True, slots=True)
class Paired:
    """A join is complete."""

    key: Key
    payloads: Mapping[str, bytes]
    first_s: float
    last_s: float


@dataclass(frozen=True, slots=True)
class Unpaired:
    """A join ends without its partners; `reason` is a sentence."""

    key: Key
    payloads: Mapping[str, bytes]
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A duplicate under the `error` policy; the join it repeats goes on."""

    kind: str
    key: Key
    reason: str


Event = Paired | Unpaired | Refused


@dataclass(slots=True)
class _Past:
    """What is remembered of a finished join: enough to know its parts again."""

    ended_s: float
    fingerprints: dict[str, int]


class Correlator:
    """See the module. `counts` holds: duplicates, replaced, superseded, evicted, expired, paired."""

    def __init__(self, needs: Mapping[str, Need], rules: Rules) -> None:
        self._rules = rules
        self._required = frozenset(k for k, need in needs.items() if need is Need.REQUIRED)
        self._optional = frozenset(needs) - self._required
        self.buffer = MessageBuffer()
        self._past: OrderedDict[Key, _Past] = OrderedDict()
        self._lingering: dict[Key, float] = {}  # complete but for optional parts ▶ wait no longer
        self._newest: dict[str, dict[str, Part]] = {}  # by source: its newest optional parts
        self._misses: Counter[str] = Counter()  # by source: joins in a row without optional parts
        self._site_misses = 0
        self.counts: Counter[str] = Counter()

    def offer(self, part: Part) -> list[Event]:
        """Take in a part; `part.arrived_s` is the time."""
        if part.kind in self._optional:
            self._note_optional(part)
            if part.part_id is None:
                return self._attach_loose(part)
        assert part.part_id is not None  # the adapter gives required parts an id or raises
        key = (part.source, part.part_id)
        if self._repeats_past(key, part):
            return self._duplicate(key, part)
        events: list[Event] = []
        join = self.buffer.get(key)
        known = join.parts.get(part.kind) if join else None
        if known is not None:
            if not self._starts_anew(known, part):
                return self._duplicate(key, part)
            self.counts["superseded"] += 1
            events.append(self._give_up(key, f"another {part.kind} with the same id arrived"))
        join = self.buffer.put(key, part)
        events.extend(self._advance(join, part.arrived_s))
        events.extend(self._enforce_bounds(part.source))
        return events

    def tick(self, now_s: float) -> list[Event]:
        """End what has waited long enough."""
        events: list[Event] = []
        for key in [k for k, deadline_s in self._lingering.items() if deadline_s <= now_s]:
            join = self.buffer.get(key)
            assert join is not None
            self._miss(key[0])
            events.append(self._pair(join, now_s))
        while (oldest := self.buffer.oldest()) is not None:
            if oldest.opened_s + self._rules.time_window_s > now_s:
                break
            if oldest.key in self._lingering:
                events.append(self._pair(oldest, now_s))
                continue
            window = f"within {self._rules.time_window_s:g} s"
            if event := self._expire(oldest, window):
                events.append(event)
        return events

    def forget(self, now_s: float) -> None:
        """Drop memories that are older than the time window."""
        while self._past:
            key, past = next(iter(self._past.items()))
            if past.ended_s + self._rules.time_window_s > now_s:
                return
            del self._past[key]

    def flush(self, reason: str) -> list[Event]:
        """End every open join: complete ones are paired, the rest given up for `reason`."""
        events: list[Event] = []
        while (oldest := self.buffer.oldest()) is not None:
            if oldest.key in self._lingering:
                events.append(self._pair(oldest, oldest.last_s))
            elif self._required & oldest.parts.keys():
                events.append(self._give_up(oldest.key, reason))
            else:
                self.buffer.pop(oldest.key)
        return events

    # ---- optional parts -------------------------------------------------------------------

    def _note_optional(self, part: Part) -> None:
        self._newest.setdefault(part.source, {})[part.kind] = part
        self._misses.pop(part.source, None)

    def _attach_loose(self, part: Part) -> list[Event]:
        """An optional part without an id completes the oldest join that lacks its kind."""
        for join in self.buffer.joins_of(part.source):
            if part.kind not in join.parts and self._required <= join.parts.keys():
                self.buffer.put(join.key, part)
                return self._advance(join, part.arrived_s)
        return []

    def _waits_for_optional(self, source: str) -> bool:
        if self._rules.optional_parts == "never" or self._rules.optional_wait_s <= 0:
            return False
        if self._rules.optional_parts == "always":
            return True
        if source not in self._misses and not self._newest:
            return self._site_misses < PATIENCE_JOINS
        return self._misses[source] < PATIENCE_JOINS

    def _miss(self, source: str) -> None:
        self._misses[source] += 1
        self._site_misses += 1

    # ---- the life of a join ---------------------------------------------------------------

    def _advance(self, join: Join, now_s: float) -> list[Event]:
        present = join.parts.keys()
        if not self._required <= present:
            return []
        if self._optional <= present or not self._waits_for_optional(join.key[0]):
            return [self._pair(join, now_s)]
        self._lingering.setdefault(join.key, now_s + self._rules.optional_wait_s)
        return []

    def _pair(self, join: Join, now_s: float) -> Paired:
        payloads = join.payloads
        for kind in self._optional - join.parts.keys():
            newest = self._newest.get(join.key[0], {}).get(kind)
            if newest is not None:
                payloads[kind] = newest.payload
        self._end(join, now_s)
        self.counts["paired"] += 1
        return Paired(join.key, payloads, first_s=join.opened_s, last_s=join.last_s)

    def _end(self, join: Join, now_s: float) -> None:
        self.buffer.pop(join.key)
        self._lingering.pop(join.key, None)
        prints = {kind: hash(part.payload) for kind, part in join.parts.items()}
        self._past[join.key] = _Past(now_s, prints)
        self._past.move_to_end(join.key)
        while len(self._past) > self._rules.max_parts:
            self._past.popitem(last=False)

    def _expire(self, join: Join, when: str) -> Unpaired | None:
        """Give up a join for want of partners; optional parts alone are no hole and just go."""
        missing = sorted(self._required - join.parts.keys())
        if len(missing) == len(self._required):
            self.buffer.pop(join.key)
            self.counts["optional_unused"] += 1
            return None
        self.counts["expired"] += 1
        return self._give_up(join.key, f"no {' and no '.join(missing)} arrived {when}")

    def _give_up(self, key: Key, reason: str) -> Unpaired:
        join = self.buffer.get(key)
        assert join is not None
        self._end(join, join.last_s)
        self._past.pop(key, None)  # a late partner is news, not a duplicate
        present = " and ".join(sorted(join.parts))
        return Unpaired(key, join.payloads, f"Not paired: {reason} (present: {present})")

    def _enforce_bounds(self, source: str) -> list[Event]:
        events: list[Event] = []
        while self.buffer.parts_of(source) > self._rules.max_parts_per_source:
            events.append(self._evict(source, "correlation.max_parts_per_source"))
        while len(self.buffer) > self._rules.max_parts:
            events.append(self._evict(None, "mqtt.listener.max_buffer_size"))
        return events

    def _evict(self, source: str | None, knob: str) -> Unpaired:
        oldest = self.buffer.oldest(source)
        assert oldest is not None
        self.counts["evicted"] += 1
        return self._give_up(oldest.key, f"the buffer is full, raise {knob}")

    # ---- duplicates -----------------------------------------------------------------------

    def _repeats_past(self, key: Key, part: Part) -> bool:
        past = self._past.get(key)
        if past is None or past.ended_s + self._rules.time_window_s <= part.arrived_s:
            return False
        known = past.fingerprints.get(part.kind)
        if known is None:
            return part.kind in self._optional  # too late for its join: only the newest counts
        recent = part.arrived_s - past.ended_s <= self._rules.duplicate_window_s
        return recent or known == hash(part.payload)

    def _starts_anew(self, known: Part, part: Part) -> bool:
        late = part.arrived_s - known.arrived_s > self._rules.duplicate_window_s
        return late and known.payload != part.payload

    def _duplicate(self, key: Key, part: Part) -> list[Event]:
        self.counts["duplicates"] += 1
        if self._rules.duplicate_handling == "error":
            reason = f"Duplicate {part.kind} for result id {key[1]}"
            return [Refused(part.kind, key, reason)]
        join = self.buffer.get(key)
        if self._rules.duplicate_handling == "replace" and join and part.kind in join.parts:
            self.counts["replaced"] += 1
            self.buffer.put(key, part)
        return []
