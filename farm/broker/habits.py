"""The `Habits`: what is known of the sources' optional parts, and whether to wait for them.

Owns the newest optional parts and the patience; binding parts to joins is the correlator's. Some
sites send optional parts with every join, some never, and some without an id that binds them:
waiting is worth its delay only where it has been seen to help.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from farm.broker.buffer import Part

# A source, or a whole site, that let this many joins in a row wait in vain is not waited for.
PATIENCE_JOINS = 3
# A source that never sent any costs its first join the wait, and no more.
PATIENCE_WITH_STRANGERS = 1


@dataclass(slots=True)
class _Habit:
    newest: dict[str, Part] = field(default_factory=dict)
    loose: dict[str, Part] = field(default_factory=dict)  # without an id, bound to no join yet
    misses: int = 0  # joins in a row that waited in vain

    @property
    def payload_bytes(self) -> int:
        """Of what is remembered; a part in both places counts twice."""
        parts = (*self.newest.values(), *self.loose.values())
        return sum(len(part.payload) for part in parts)


class Habits:
    """See the module. Remembers the `max_sources` that were heard of most recently.

    Of these again only so many that their parts have `max_bytes` in all, or the newest one.
    """

    def __init__(self, policy: str, *, max_sources: int, max_bytes: int = 1 << 62) -> None:
        self._max_bytes = max_bytes
        self._payload_bytes = 0
        self._policy = policy  # auto | always | never
        self._max_sources = max_sources
        self._sources: OrderedDict[str, _Habit] = OrderedDict()
        self._site_misses = 0
        self._site_sends = False  # an optional part has met its join, somewhere, once

    def __len__(self) -> int:
        """How many sources are remembered."""
        return len(self._sources)

    def waits(self, source: str) -> bool:
        """Whether a complete join of this source shall wait for its optional parts."""
        if self._policy != "auto":
            return self._policy == "always"
        if not self._site_sends and self._site_misses >= PATIENCE_JOINS:
            return False
        habit = self._of(source)
        return habit.misses < (PATIENCE_JOINS if habit.newest else PATIENCE_WITH_STRANGERS)

    def met(self, source: str) -> None:
        """An optional part found its join, or would have, had the join waited."""
        self._site_sends = True
        self._of(source).misses = 0

    def missed(self, source: str) -> None:
        """A join of this source went without its optional parts."""
        if self.waits(source):
            self._of(source).misses += 1
            self._site_misses += 1

    def note(self, part: Part) -> None:
        """An optional part came."""
        habit = self._of(part.source)
        before = habit.payload_bytes
        habit.newest[part.kind] = part
        if part.part_id is None:
            habit.loose[part.kind] = part
        self._weigh(habit.payload_bytes - before)

    def recall(self, part: Part) -> None:
        """An optional part of a former life: the newest of its kind then."""
        habit = self._of(part.source)
        before = habit.payload_bytes
        habit.newest[part.kind] = part
        self._weigh(habit.payload_bytes - before)

    def newest(self, source: str, kinds: Collection[str]) -> dict[str, Part]:
        """The newest parts of these kinds, as far as any came."""
        newest = self._of(source).newest
        return {kind: newest[kind] for kind in kinds if kind in newest}

    def take_loose(self, source: str, kinds: Collection[str], *, since_s: float) -> list[Part]:
        """The parts of these kinds that came without an id since then; each is given once."""
        habit = self._sources.get(source)
        if habit is None or not habit.loose:
            return []
        loose = habit.loose
        taken = [loose.pop(kind) for kind in kinds if kind in loose]
        self._payload_bytes -= sum(len(part.payload) for part in taken)
        return [part for part in taken if part.arrived_s >= since_s]

    def _of(self, source: str) -> _Habit:
        habit = self._sources.get(source)
        if habit is None:
            habit = self._sources[source] = _Habit()
            if len(self._sources) > self._max_sources:
                self._forget_oldest()
        else:
            self._sources.move_to_end(source)
        return habit

    def _weigh(self, more_bytes: int) -> None:
        self._payload_bytes += more_bytes
        while self._payload_bytes > self._max_bytes and len(self._sources) > 1:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, habit = self._sources.popitem(last=False)
        self._payload_bytes -= habit.payload_bytes
