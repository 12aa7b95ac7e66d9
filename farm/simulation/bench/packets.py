"""The messages of recorded holes as MQTT packets that are rewritten in place.

Ids and tools of one width, so that a hole becomes another one by a few dozen slices: nothing is
joined or copied but by the kernel.
"""

from __future__ import annotations

import itertools
import re
from copy import copy
from typing import TYPE_CHECKING, Final

from farm.simulation.gateway import HEADS
from farm.simulation.lean import publish_packet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from random import Random

    from farm.simulation.lean import LeanClient
    from farm.simulation.restamp import HoleTemplate

TOOLBOX: Final = "SIM-BOX-1"
MAX_TOOLS: Final = 99_999
MAX_BUFFER_BYTES: Final = 268_435_456  # 10,000 tools with holes of 25 kB
FIRST_ID: Final = 1_000_000_000  # all ids have ten digits, and fit into 31 bits
_TOOL_SAMPLE, _ID_SAMPLE = "SIM-@@@@@", "@@@@@@@@@@"
_MESSAGE_ID = re.compile(rb'"MessageId"\s*:\s*"[^"\\]*?([0-9a-f]{8})"')


def tool_name(number: int) -> str:
    """The name of a tool, all of one length; `number` is below `MAX_TOOLS`."""
    return f"SIM-{number + 1:05d}"


class Packet:
    """One message, to be published again and again."""

    def __init__(self, topic: str, payload: bytes, *, version: str) -> None:
        self.buffer, id_at = publish_packet(topic, payload, version=version)
        self._id_place = slice(id_at, id_at + 2)
        self._tools = list(_places(self.buffer, _TOOL_SAMPLE.encode()))
        self._results = list(_places(self.buffer, _ID_SAMPLE.encode()))
        self._unique = [slice(*found.span(1)) for found in _MESSAGE_ID.finditer(self.buffer)]
        self._tool = b""

    def copy(self) -> Packet:
        """Another one with a buffer of its own."""
        made = copy(self)
        made.buffer = bytearray(self.buffer)
        return made

    def stamp(self, tool: bytes, result_id: bytes, unique: bytes, message_id: bytes) -> bytearray:
        """The packet for another hole; the same buffer each time.

        Args:
            tool: nine bytes, see `tool_name`.
            result_id: ten digits.
            unique: eight hexadecimal digits for the end of its MessageId.
            message_id: MQTT's own, two bytes.
        """
        buffer = self.buffer
        if tool != self._tool:  # stands in every key: most of the work
            self._tool = tool
            for place in self._tools:
                buffer[place] = tool
        for place in self._results:
            buffer[place] = result_id
        for place in self._unique:
            buffer[place] = unique
        buffer[self._id_place] = message_id
        return buffer


class Holes:
    """Holes without end, made of a few.

    Args:
        templates: the holes to be repeated.
        tools: over how many tools.
        version: of MQTT.
        heads: whether a Heads message goes with each that has one.
        shuffle: the messages of a hole in any order.
        first_id: the result id of the first hole, of ten digits.
        rng: for that.

    Attributes:
        pool: so many holes in a row share no buffer.
        bytes_per_hole: on average, without MQTT's headers.
    """

    def __init__(
        self,
        templates: Iterable[HoleTemplate],
        *,
        tools: int,
        version: str,
        heads: bool,
        shuffle: bool,
        first_id: int,
        rng: Random,
    ) -> None:
        written = [
            [
                (topic, payload)
                for topic, payload in t.bind(toolbox=TOOLBOX, tool=_TOOL_SAMPLE).stamp(_ID_SAMPLE)
                if heads or not topic.endswith(HEADS)
            ]
            for t in templates
        ]
        made = [[Packet(*part, version=version) for part in parts] for parts in written]
        self.bytes_per_hole = sum(len(p) for parts in written for _, p in parts) // len(made)
        self.pool = buffers(len(made), tools, self.bytes_per_hole)
        self._holes = [
            [packet.copy() for packet in made[number % len(made)]] for number in range(self.pool)
        ]
        self._orders = [
            list(itertools.permutations(parts)) if shuffle else [tuple(parts)]
            for parts in self._holes
        ]
        self._tools = [tool_name(number).encode() for number in range(tools)]
        self._first_id = first_id
        self._rng = rng
        self._published = 0

    def packets(self, number: int, client: LeanClient) -> list[bytearray]:
        """The packets of a hole, valid until `pool` holes later.

        Args:
            number: of the hole, from 0.
            client: numbers the publications.
        """
        tool = self._tools[number % len(self._tools)]
        result_id = b"%d" % (self._first_id + number)
        orders = self._orders[number % self.pool]
        packets = []
        for packet in orders[self._rng.randrange(len(orders))] if len(orders) > 1 else orders[0]:
            self._published += 1
            unique = b"%08x" % self._published
            packets.append(packet.stamp(tool, result_id, unique, client.next_message_id()))
        return packets

    def source(self, number: int) -> bytes:
        """Toolbox and tool of a hole, as in its topics."""
        return TOOLBOX.encode() + b"/" + self._tools[number % len(self._tools)]


def buffers(holes: int, tools: int, bytes_per_hole: int) -> int:
    """How many holes to keep as packets: so many that each is always of one tool, if they fit.

    Args:
        holes: different ones; at least these.
        tools: that take turns.
        bytes_per_hole: of the packets.
    """
    wanted = -(-holes // tools) * tools  # the least multiple of the tools that has all holes
    return wanted if wanted * bytes_per_hole <= MAX_BUFFER_BYTES else holes


def _places(buffer: bytearray, sample: bytes) -> Iterator[slice]:
    at = buffer.find(sample)
    while at >= 0:
        yield slice(at, at + len(sample))
        at = buffer.find(sample, at + len(sample))
