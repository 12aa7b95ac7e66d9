"""The `MessageBuffer`: parts that wait for their partners, bounded and countable.

Owns storage and bounds. What belongs together and when is the correlator's business.
"""

from __future__ import annotations

import zlib
from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

Key = tuple[str, str]  # (source, part id): one join inside the time window


class Part(NamedTuple):
    """One message from MQTT, routed and identified."""

    kind: str
    source: str
    part_id: str | None  # None: an optional part that names no join
    payload: bytes
    arrived_s: float  # on the intake clock, see `farm.broker.intake.IntakeClock`
    message_id: int = 0  # in the journal
    is_redelivered: bool = False  # MQTT says that it may have sent it before
    crc: int = -1  # of the payload, as `zlib.crc32`; -1: not computed yet

    @property
    def fingerprint(self) -> int:
        """What the payload is known again by, also in a later life of the broker."""
        crc = zlib.crc32(self.payload) if self.crc < 0 else self.crc
        return fingerprint(crc, len(self.payload))


def fingerprint(crc: int, payload_bytes: int) -> int:
    """See `Part.fingerprint`."""
    return payload_bytes << 32 | crc


@dataclass(slots=True)
class Join:
    """The parts of one hole so far."""

    key: Key
    opened_s: float
    last_s: float
    first_message_id: int = 0  # none of its parts is older
    parts: dict[str, Part] = field(default_factory=dict)


class MessageBuffer:
    """Open joins in order of their first part, with counts by kind, source and bytes."""

    def __init__(self) -> None:
        # ordered dictionaries find their first entry at once, however many were taken out
        self._joins: OrderedDict[Key, Join] = OrderedDict()
        self._by_source: dict[str, OrderedDict[Key, Join]] = defaultdict(OrderedDict)
        self._parts_of_source: dict[str, int] = {}
        self._parts = 0
        self.payload_bytes = 0

    def __len__(self) -> int:
        """How many parts wait."""
        return self._parts

    @property
    def open_joins(self) -> int:
        """How many joins wait."""
        return len(self._joins)

    @property
    def parts_by_kind(self) -> Counter[str]:
        """How many parts of each kind wait; all are looked at."""
        return Counter(kind for join in self._joins.values() for kind in join.parts)

    def parts_of(self, source: str) -> int:
        """How many parts of one source wait."""
        return self._parts_of_source.get(source, 0)

    def get(self, key: Key) -> Join | None:
        """The open join of a key."""
        return self._joins.get(key)

    def joins(self) -> tuple[Join, ...]:
        """All open joins, oldest first."""
        return tuple(self._joins.values())

    def put(self, key: Key, part: Part) -> Join:
        """Add a part to its join, or put it in place of the one of its kind."""
        join = self._joins.get(key)
        if join is None:
            join = Join(
                key,
                opened_s=part.arrived_s,
                last_s=part.arrived_s,
                first_message_id=part.message_id,
            )
            self._joins[key] = join
            self._by_source[key[0]][key] = join
        replaced = join.parts.get(part.kind)
        if replaced is not None:
            self._count(key[0], -1, -len(replaced.payload))
        join.parts[part.kind] = part
        join.last_s = max(join.last_s, part.arrived_s)
        self._count(key[0], 1, len(part.payload))
        return join

    def pop(self, key: Key) -> Join | None:
        """Take a join out."""
        join = self._joins.pop(key, None)
        if join is None:
            return None
        of_source = self._by_source[key[0]]
        del of_source[key]
        if not of_source:
            del self._by_source[key[0]]
        sizes = [len(part.payload) for part in join.parts.values()]
        self._count(key[0], -len(sizes), -sum(sizes))
        return join

    def oldest(self, source: str | None = None) -> Join | None:
        """The join that was opened first, of one source or of all."""
        joins = self._joins if source is None else self._by_source.get(source)
        return next(iter(joins.values()), None) if joins else None

    def _count(self, source: str, parts: int, payload_bytes: int) -> None:
        """So many more of each."""
        self._parts += parts
        self.payload_bytes += payload_bytes
        if of_source := self._parts_of_source.get(source, 0) + parts:
            self._parts_of_source[source] = of_source
        else:
            del self._parts_of_source[source]
