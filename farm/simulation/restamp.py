"""Rewrites recorded messages under fresh ids, cheaply enough to replay thousands a second.

A message is looked through once and cut into the bytes that stay and the places of the ids; after
that a fresh copy is one join. Numbers stay exactly as they were recorded.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from farm.errors import ReadError
from farm.simulation.gateway import ROOT, HoleMessages, topic


class Slot(Enum):
    """What stands at a place that may be rewritten."""

    MESSAGE_ID = "message id"
    TOOLBOX = "toolbox"
    TOOL = "tool"
    RESULT_ID = "result id"


# The last group of each is what may be rewritten. A field's Value may stand on either side of its
# timestamp, and a result id is a number or a string.
_PATTERNS = (
    (Slot.MESSAGE_ID, re.compile(rb'"MessageId"\s*:\s*"([^"\\]*)"')),
    (Slot.TOOLBOX, re.compile(rb'"PublisherId"\s*:\s*"([^"\\]*)"')),
    (Slot.TOOL, re.compile(rb'"DataSetWriterId"\s*:\s*"([^"\\]*)"')),
    (Slot.TOOL, re.compile(rb";s=Objects\.DeviceSet\.([^\"]+?)\.(?:Result|Asset)Management\.")),
    (
        Slot.RESULT_ID,
        re.compile(
            rb'(?:\.ResultMetaData\.ResultId|\.StepResultId|\.LifeTimeCycleCounter)"\s*:\s*'
            rb'\{[^{}]*?"Value"\s*:\s*(?:"([^"\\]*)"|(-?\d+))'
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class _Place:
    slot: Slot
    start: int
    end: int


class BoundMessage:
    """One message of one tool, to be stamped with result ids."""

    def __init__(
        self, pieces: list[bytes], id_places: list[int], message_id_places: list[int]
    ) -> None:
        self._pieces = pieces
        self._id_places = id_places
        self._message_id_places = message_id_places

    def stamp(self, result_id: str) -> bytes:
        """A copy under this result id and a fresh MessageId."""
        pieces = self._pieces.copy()
        written = result_id.encode()
        for place in self._id_places:
            pieces[place] = written
        for place in self._message_id_places:
            pieces[place] = str(uuid.uuid4()).encode()
        return b"".join(pieces)


class MessageTemplate:
    """A recorded message, cut at its ids.

    Attributes:
        toolbox: who published it.
        tool: the drilling unit it is about.
        result_id: the hole it belongs to, or "" where it names none.

    Raises:
        ReadError: it is no message of a gateway.
    """

    def __init__(self, raw: bytes) -> None:
        try:
            json.loads(raw)
        except ValueError as error:
            raise ReadError(f"not JSON: {error}") from error
        self._raw = raw
        self._places = _find_places(raw)
        self.toolbox = self._first(Slot.TOOLBOX)
        self.tool = self._first_tool()
        self.result_id = self._first(Slot.RESULT_ID)
        if not self.toolbox or not self.tool:
            raise ReadError("it has no PublisherId or no key with Objects.DeviceSet.<tool>")

    def bind(self, *, toolbox: str, tool: str, own_id: str | None = None) -> BoundMessage:
        """The message as published by another tool, ready to be stamped.

        Args:
            toolbox: the new publisher.
            tool: the new tool.
            own_id: rewrite only ids that read so; None rewrites all.
        """
        names = {Slot.TOOLBOX: _json_text(toolbox), Slot.TOOL: _json_text(tool)}
        pieces: list[bytes] = []
        places: dict[Slot, list[int]] = {Slot.RESULT_ID: [], Slot.MESSAGE_ID: []}
        position = 0
        for place in self._places:
            old = self._raw[place.start : place.end]
            foreign = place.slot is Slot.RESULT_ID and own_id not in {None, old.decode()}
            if foreign or (place.slot is Slot.TOOL and old.decode() != self.tool):
                continue
            pieces.append(self._raw[position : place.start])
            if place.slot in places:
                places[place.slot].append(len(pieces))
            pieces.append(names.get(place.slot, old))
            position = place.end
        pieces.append(self._raw[position:])
        return BoundMessage(pieces, places[Slot.RESULT_ID], places[Slot.MESSAGE_ID])

    def _first(self, slot: Slot) -> str:
        return next((self._text(place) for place in self._places if place.slot is slot), "")

    def _first_tool(self) -> str:
        # DataSetWriterId may be any name; the keys name the tool.
        found = _PATTERNS[3][1].search(self._raw)
        return found.group(1).decode() if found else ""

    def _text(self, place: _Place) -> str:
        return self._raw[place.start : place.end].decode()


class BoundHole:
    """The messages of one hole as one tool would publish them."""

    def __init__(self, parts: list[tuple[str, BoundMessage]]) -> None:
        self._parts = parts

    def stamp(self, result_id: str) -> list[tuple[str, bytes]]:
        """Topic and payload of each message, under this result id."""
        return [(name, message.stamp(result_id)) for name, message in self._parts]


class HoleTemplate:
    """The recorded messages of one hole, cut at their ids.

    Attributes:
        toolbox: who published them.
        tool: the drilling unit.
        result_id: as recorded.

    Raises:
        ReadError: one of them is no message of a gateway, or there is no result id.
    """

    def __init__(self, recorded: HoleMessages) -> None:
        self._templates = []
        for tail, raw in recorded.parts():
            try:
                self._templates.append((tail, MessageTemplate(raw)))
            except ReadError as error:
                raise ReadError(f"{tail}: {error}") from error
        result = self._templates[0][1]
        self.toolbox, self.tool, self.result_id = result.toolbox, result.tool, result.result_id
        if not self.result_id:
            raise ReadError(f"{self._templates[0][0]}: it has no ResultId")

    def bind(
        self, *, toolbox: str | None = None, tool: str | None = None, root: str = ROOT
    ) -> BoundHole:
        """The hole as drilled by another tool (default: the recorded one)."""
        toolbox, tool = toolbox or self.toolbox, tool or self.tool
        return BoundHole(
            [
                (
                    topic(tail, toolbox=toolbox, tool=tool, root=root),
                    template.bind(toolbox=toolbox, tool=tool, own_id=self.result_id),
                )
                for tail, template in self._templates
            ]
        )


def with_result_id(recorded: HoleMessages, result_id: int | str) -> HoleMessages:
    """The same hole under another result id, once. For many copies keep a `HoleTemplate`."""
    stamped = dict(
        zip(
            (tail for tail, _ in recorded.parts()),
            (raw for _, raw in HoleTemplate(recorded).bind().stamp(str(result_id))),
            strict=True,
        )
    )
    tails = [tail for tail, _ in recorded.parts()]
    return HoleMessages(
        result=stamped[tails[0]],
        trace=stamped[tails[1]],
        heads=stamped[tails[2]] if recorded.heads is not None else None,
    )


def _find_places(raw: bytes) -> list[_Place]:
    places = []
    for slot, pattern in _PATTERNS:
        for found in pattern.finditer(raw):
            group = found.lastindex or 1
            places.append(_Place(slot, found.start(group), found.end(group)))
    places.sort(key=lambda place: place.start)
    if any(left.end > right.start for left, right in pairwise(places)):
        raise ReadError("its ids stand inside one another")
    return places


def _json_text(text: str) -> bytes:
    return json.dumps(text)[1:-1].encode()
