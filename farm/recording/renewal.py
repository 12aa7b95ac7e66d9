"""The `Renewal`: fresh result ids for a replay, so that its holes are not taken for known ones.

A farm knows a hole again by its id for as long as its time window lasts, and longer over a restart:
what is replayed under the recorded ids within that is a duplicate, and gets no answer. And a tool
whose ids begin anew (its head was changed) would meet itself, once a day is replayed in a minute.
So each hole gets an id of its own, all its messages the same one, repeats included.

Decides without I/O. Only the ids in a message change, byte by byte: its numbers stay as they were.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from farm.drilling.fields import SUFFIX, Field, bare_path, canonical_id
from farm.errors import ReadError
from farm.recording.id_places import rewrite_ids

if TYPE_CHECKING:
    from farm.config import DataIdsConfig
    from farm.recording.record import Message
    from farm.recording.traffic import Key, Traffic

MAX_KNOWN: Final = 100_000  # holes whose further messages are known to be theirs
_STEP_RESULT_ID: Final = "StepResultId"  # each of a trace's lists repeats the hole's id
_BOUNDARIES: Final = frozenset(b'."=')  # what may stand before a path inside a key
_WS: Final = rb"[ \t\r\n]{0,200}"
# From the end of a key to its value, which is the group. The value counts only if a delimiter
# follows it: {"Value": 44 may have been 440.
_VALUE: Final = re.compile(
    rb"(?:\.MeasuredValue)?\"" + _WS + rb":" + _WS + rb"\{(?:[^{}\[\]]{0,400}?,)?" + _WS
    + rb'"Value"' + _WS + rb":" + _WS
    + rb'("(?:[^"\\]|\\.){0,2000}"|-?[0-9][0-9.eE+-]{0,400})(?=[ \t\r\n,}])'
)  # fmt: skip


class Renewed(NamedTuple):
    """A message as it is to be published, and the hole it is of."""

    message: Message
    hole: Hole | None  # None: it names no hole


@dataclass(slots=True)
class Hole:
    """A hole of a recording.

    Attributes:
        key: source and id as recorded.
        nth: which one of this key it is, from 1.
        new_id: the id under which it is replayed; the recorded one where it can't be changed.
        kinds: of its messages, with what was last seen of each.
    """

    key: Key
    nth: int
    new_id: str
    first_ns: int
    last_ns: int
    kinds: dict[str, int] = field(default_factory=dict)  # hash of the payload
    seen_ns: dict[str, int] = field(default_factory=dict)


class Renewal:
    """See the module.

    Args:
        traffic: reads the messages.
        first_id: the first new id; None: the holes keep theirs.

    Attributes:
        kept: messages whose id could not be changed, so that they leave as recorded.
        repeated: holes whose id an earlier hole of the recording has.
    """

    def __init__(self, traffic: Traffic, *, first_id: int | None) -> None:
        self._traffic = traffic
        self._next_id = first_id
        listener = traffic.config.mqtt.listener
        self._window_ns = round(listener.time_window * 1e9)
        self._duplicate_ns = round(listener.duplicate_time_window * 1e9)
        self._known: OrderedDict[Key, Hole] = OrderedDict()
        self._times: dict[Key, int] = {}
        data_ids = traffic.config.mqtt.data_ids
        self._fields = id_fields(data_ids)
        self._paths = [Field(path) for path in _id_paths(data_ids)]
        self.kept = 0
        self.repeated = 0

    def renew(self, message: Message) -> Renewed:
        """The next message, in the order of arrival."""
        route = self._traffic.route(message.topic)
        part_id = route and self._traffic.part_id(route.kind, message.payload)
        if route is None or part_id is None:
            self.kept += self._next_id is not None
            return Renewed(message, None)
        hole = self._hole_of((route.source, part_id), route.kind, message)
        if hole.new_id == part_id:
            return Renewed(message, hole)
        payload = replace_ids(message.payload, part_id, hole.new_id, self._fields)
        if self._traffic.part_id(route.kind, payload) != hole.new_id:
            # a spelling that the pattern does not know: its partners must not lose it
            found = rewrite_ids(message.payload, part_id, hole.new_id, self._is_id)
            payload = message.payload if found is None else found
        if self._traffic.part_id(route.kind, payload) != hole.new_id:
            self.kept += 1
            return Renewed(message, hole)
        return Renewed(message._replace(payload=payload), hole)

    def _is_id(self, key: str) -> bool:
        name = key.removesuffix(SUFFIX)
        return any(each.is_key(name) for each in self._paths)

    def _hole_of(self, key: Key, kind: str, message: Message) -> Hole:
        """The hole that a message is of, by the rules by which a farm joins and tells repeats."""
        content = hash(message.payload)
        hole = self._known.get(key)
        if hole is None or self._begins_another(hole, kind, content, message.at_ns):
            hole = self._new_hole(key, message.at_ns)
        self._known.move_to_end(key)
        hole.kinds[kind] = content
        hole.seen_ns[kind] = message.at_ns
        hole.last_ns = message.at_ns
        return hole

    def _begins_another(self, hole: Hole, kind: str, content: int, at_ns: int) -> bool:
        if at_ns - hole.last_ns > self._window_ns:
            return True
        known = hole.kinds.get(kind)
        if known is None or known == content or kind not in self._traffic.required:
            return False
        return at_ns - hole.seen_ns[kind] > self._duplicate_ns

    def _new_hole(self, key: Key, at_ns: int) -> Hole:
        nth = self._times[key] = self._times.get(key, 0) + 1
        self.repeated += nth > 1
        new_id = key[1]
        if self._next_id is not None and self._traffic.is_drilling:
            new_id, self._next_id = str(self._next_id), self._next_id + 1
        hole = self._known[key] = Hole(key, nth, new_id, at_ns, at_ns)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return hole


def id_fields(data_ids: DataIdsConfig) -> tuple[bytes, ...]:
    """How the keys of the fields end in which a hole's id may stand, as in the raw bytes.

    Args:
        data_ids: the configured paths.
    """
    return tuple(orjson.dumps(end)[1:-1] for end in dict.fromkeys(_id_paths(data_ids)))


def _id_paths(data_ids: DataIdsConfig) -> list[str]:
    paths = (data_ids.result_id, data_ids.trace_result_id, data_ids.head_cycle)
    return [*map(bare_path, paths), _STEP_RESULT_ID]


def replace_ids(payload: bytes, old_id: str, new_id: str, fields: tuple[bytes, ...]) -> bytes:
    """The payload with every id that reads `old_id` in its stead; a text stays one, a number, too.

    Ids of other holes in it stay.
    """
    places: dict[int, tuple[int, bytes]] = {}
    for field_end in fields:
        at = -1
        # a pattern that looked for the key itself would take a millisecond for each trace
        while (at := payload.find(field_end, at + 1)) >= 0:
            found = _VALUE.match(payload, at + len(field_end))
            if not found or not at or payload[at - 1] not in _BOUNDARIES:
                continue
            written = found[1]
            if _reads(written) == old_id:
                new = orjson.dumps(new_id) if written[:1] == b'"' else new_id.encode()
                places[found.start(1)] = (found.end(1), new)
    pieces, position = [], 0
    for start, (end, new) in sorted(places.items()):
        pieces += [payload[position:start], new]
        position = end
    return b"".join([*pieces, payload[position:]])


def _reads(written: bytes) -> str | None:
    try:
        return canonical_id(orjson.loads(written))
    except (orjson.JSONDecodeError, ReadError):
        return None
