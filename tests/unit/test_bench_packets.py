"""The holes that the bench repeats: what is rewritten in place must be what a gateway writes."""

from __future__ import annotations

import json
from collections import Counter
from random import Random

import pytest

from farm.adapter import load_adapter
from farm.config import Config
from farm.simulation.bench.packets import FIRST_ID, TOOLBOX, Holes, buffers, tool_name
from farm.simulation.drilled import SAMPLE_RECIPES, series
from farm.simulation.lean import Parser
from farm.simulation.restamp import HoleTemplate


class Numbers:
    """Numbers publications as the client does."""

    def __init__(self) -> None:
        self.given = 0

    def next_message_id(self) -> bytes:
        self.given += 1
        return self.given.to_bytes(2, "big")


def holes(*, tools: int, heads: bool = True, shuffle: bool = True, count: int = 3) -> Holes:
    drilled = series(SAMPLE_RECIPES[1:3], count=count, seed=5)  # one style with Heads and ints …
    return Holes(
        [HoleTemplate(hole.messages) for hole in drilled],
        tools=tools,
        version="5",
        heads=heads,
        shuffle=shuffle,
        first_id=FIRST_ID,
        rng=Random(1),
    )


@pytest.mark.parametrize("tools", [1, 2, 5])
def test_the_farm_reads_source_and_id_of_each_message_as_they_were_stamped(tools):
    # prevents: a place that is not rewritten, by which messages of different holes would be joined
    adapter = load_adapter(Config())
    stream, numbers = holes(tools=tools), Numbers()
    seen = Counter()
    for number in range(12):
        for packet in stream.packets(number, numbers):
            [message] = Parser(version="5").feed(bytes(packet)).messages
            route = adapter.route(message.topic.decode())
            assert route is not None
            assert route.source == f"{TOOLBOX}/{tool_name(number % tools)}"
            assert route.source.encode() == stream.source(number)
            assert adapter.part_id(route.kind, message.payload) == str(FIRST_ID + number)
            assert json.loads(message.payload)["PublisherId"] == TOOLBOX
            assert b"@" not in message.payload
            seen[message.message_id] += 1
            seen[json.loads(message.payload)["MessageId"]] += 1
            seen[number] += 1
    assert {seen[number] for number in range(12)} == {3}
    assert all(count == 1 for key, count in seen.items() if not isinstance(key, int))


def test_without_heads_two_messages_go_out():
    stream = holes(tools=1, heads=False)
    packets = stream.packets(0, Numbers())
    assert len(packets) == 2
    assert all(b"AssetManagement" not in packet for packet in packets)


def test_holes_in_a_row_share_no_buffer():
    # prevents: a packet that is rewritten before the kernel has it
    stream, numbers = holes(tools=2), Numbers()
    first = [bytes(p) for p in stream.packets(0, numbers)]
    buffers_of_first = stream.packets(stream.pool, numbers)
    kept = [id(p) for p in buffers_of_first]
    for number in range(1, stream.pool):
        assert not set(kept) & {id(p) for p in stream.packets(number, numbers)}
    assert sorted(map(len, first)) == sorted(map(len, buffers_of_first))


@pytest.mark.parametrize(
    ("tools", "size", "kept"),
    [
        (1, 25_000, 24),
        (20, 25_000, 40),  # twice around, so that all holes are used
        (24, 25_000, 24),
        (1000, 25_000, 1000),
        (99_999, 25_000, 24),  # too many: their names are written anew each time
        (20, 20_000_000, 24),
    ],
)
def test_so_many_buffers_are_kept_that_tools_need_not_be_rewritten(tools, size, kept):
    assert buffers(24, tools, size) == kept
