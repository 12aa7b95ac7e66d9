"""Partitions that find their place, and a cut under every order of events: a broker in memory.

The MQTT broker here does what docs/partitions.md asks of a real one: every session gets every
message in the same order, and what was not acknowledged comes again, in that order.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from farm.broker.group import BEAT_S, Group, Phase, packed, unpacked
from farm.broker.roll_call import RollCall
from farm.config.partition import PartitionConfig
from farm.errors import FarmError

if TYPE_CHECKING:
    from farm.adapter import Publication
    from farm.journal.records import Setting

REMEMBERED = 10  # few, so that a cut which relies on more is found out

Message = tuple[str, str, str]  # source, part id, kind; or ("", "", the text of a cut's message)


class Node:
    """One partition: takes messages of its session in order, acknowledges them later, may die."""

    def __init__(self, site: Site, index: int, count: int) -> None:
        self.site, self.config = site, PartitionConfig(group="g", index=index, count=count)
        self.session: list[Message] = []  # since it exists: all of them
        self.acknowledged = 0
        self.done = 0  # of the session, looked at in this life
        self.taken: list[Message] = []  # journaled
        self.settings: list[Setting] = []
        self.kept: list[tuple[int, int]] = []  # journaled with each message of the session
        self.start()

    def die(self, rng: random.Random) -> None:
        """What was not acknowledged may be in the journal, up to some point, or not."""
        if self.done > self.acknowledged:
            written = rng.randrange(self.acknowledged, self.done)
            taken, settings = self.kept[written]
            del self.taken[taken:], self.settings[settings:]
        self.start()

    def start(self) -> None:
        self.group = Group(
            self.config,
            self.site.now_s,
            utc_s=self.site.now_s,
            record=self.settings.append,
            say=self.site.say,
        )
        self.group.begin(self.settings[-1].value if self.settings else None)
        self.group.go_on([(source, part_id) for source, part_id, _ in self.taken])
        self.done = self.acknowledged
        self.group.connected(self.site.now_s)
        for topic, payload in list(self.site.retained.items()):
            self.group.heard(topic, payload, self.site.now_s)
        self.group.tick(self.site.now_s)

    def step(self) -> None:
        """Look at the next message."""
        if self.group.holds or self.done >= len(self.session):
            return
        source, part_id, kind = message = self.session[self.done]
        self.kept[self.done :] = [(len(self.taken), len(self.settings))]
        self.done += 1
        if not source:
            self.group.arrived(kind.encode(), self.remembered, self.site.now_s)
            return
        share = self.group.share
        is_ours = share.takes(source, part_id) if share.asks_for_id else share.owns(source)
        if is_ours and message not in self.taken:  # the correlator knows a repeat
            self.taken.append(message)

    def remembered(self) -> list[tuple[str, str]]:
        """What a correlator knows: holes that wait for a part, and the newest that are complete."""
        times = Counter((source, part_id) for source, part_id, _ in self.taken)
        waiting = [key for key, count in times.items() if count == 1]
        return waiting + [(source, part_id) for source, part_id, _ in self.taken[-REMEMBERED:]]

    def acknowledge(self) -> None:
        """Everything that was looked at; then say what may be said of it."""
        self.kept[self.done :] = [(len(self.taken), len(self.settings))]
        for source, _, kind in self.session[self.acknowledged : self.done]:
            self.acknowledged += 1
            vow = self.group.vow(kind.encode()) if not source else None
            if vow is not None:
                self.site.say(vow)


class Site:
    """The MQTT broker, and who makes the cut."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.retained: dict[str, bytes] = {}
        self.marks: list[dict[str, Any]] = []
        self.now_s = 0.0
        self.sent: list[Message] = []

    def say(self, publication: Publication) -> None:
        self.retained[publication.topic] = publication.payload
        if "/mark/" in publication.topic:
            self.marks.append(json.loads(publication.payload))
        for node in self.nodes:
            node.group.heard(publication.topic, publication.payload, self.now_s)

    def add(self, index: int, count: int) -> Node:
        node = Node(self, index, count)
        self.nodes.append(node)
        self.beat()
        return node

    def publish(self, *messages: Message) -> None:
        self.sent += [message for message in messages if message[0]]
        for node in self.nodes:
            node.session += messages

    def order(self, what: str, cut_id: str, **more: int) -> None:
        self.publish(("", "", json.dumps({"do": what, "id": cut_id, **more})))

    def beat(self) -> None:
        self.now_s += BEAT_S
        for node in self.nodes:
            node.group.tick(self.now_s)

    def finish(self) -> None:
        for _ in range(3):
            self.beat()
            for node in self.nodes:
                for _ in range(len(node.session) + 1):
                    node.step()
                node.acknowledge()

    def is_vowed(self, cut_id: str) -> bool:
        """Whether each has vowed; a mark does not say of whom, so by number."""
        tokens = {mark["token"] for mark in self.marks if mark["prepared"] == cut_id}
        return len(tokens) >= len(self.nodes)

    def assert_each_message_has_one_owner(self) -> None:
        for message in self.sent:
            takers = [node.group.index for node in self.nodes if message in node.taken]
            assert len(takers) == 1, (message, takers)

    def assert_no_hole_is_torn(self) -> None:
        for source, part_id, _ in self.sent:
            takers = {
                node.group.index
                for node in self.nodes
                for kind in ("result", "trace")
                if (source, part_id, kind) in node.taken
            }
            assert len(takers) == 1, (source, part_id, takers)


def holes(number: int, tools: int = 12) -> list[Message]:
    """One message of each of the next holes."""
    return [(f"box/{n % tools}", str(n), "result") for n in range(number, number + tools)]


def test_the_first_ones_are_in_force_at_once() -> None:
    site = Site()
    nodes = [site.add(0, 2), site.add(1, 2)]
    assert [node.group.phase for node in nodes] == [Phase.IN_FORCE] * 2
    site.publish(*holes(0))
    site.finish()
    site.assert_each_message_has_one_owner()


def test_one_that_is_added_takes_nothing_until_the_cut() -> None:
    site = Site()
    site.add(0, 1)
    added = site.add(1, 2)
    site.publish(*holes(0))
    site.finish()
    assert added.group.phase is Phase.JOINING
    assert not added.taken
    assert added.acknowledged == len(added.session)  # what comes must not pile up
    site.assert_each_message_has_one_owner()


@pytest.mark.parametrize(("index", "count"), [(0, 3), (1, 3)])
def test_one_of_another_count_inside_the_group_takes_nothing_in(index: int, count: int) -> None:
    # prevents: a partition whose state directory was lost and whose count is mistyped, which
    # answers holes of others
    site = Site()
    site.add(0, 2)
    site.add(1, 2)
    site.nodes.pop(index)
    late = site.add(index, count)
    assert late.group.phase is Phase.NEW
    assert late.group.holds
    assert "elsewhere" in late.group.problems(site.now_s)[0]


class Drilling:
    """Lets a site live by chance: messages, deaths, acknowledgements."""

    def __init__(self, site: Site, seed: int) -> None:
        self.rng, self.site = random.Random(seed), site
        self.number, self.open_parts = 0, list[Message]()

    def live(self, steps: int, until: Any = lambda: False) -> None:
        for _ in range(steps):
            if until():
                return
            self.step(self.rng.choice(self.site.nodes))

    def step(self, node: Node) -> None:
        rng, open_parts = self.rng, self.open_parts
        match rng.randrange(12):
            case 0:
                fresh = holes(self.number)
                self.site.publish(*fresh)
                self.number += len(fresh)
                open_parts.extend((s, p, "trace") for s, p, _ in fresh)
            case 1 | 2 if open_parts:
                self.site.publish(open_parts.pop(rng.randrange(len(open_parts))))
            case 3:
                self.site.beat()
            case 4:
                node.acknowledge()
            case 5 if rng.random() < 0.3:
                node.die(rng)
            case _:
                for _ in range(rng.randrange(20)):
                    node.step()


@pytest.mark.parametrize("seed", range(40))
def test_a_cut_loses_and_repeats_nothing_whatever_dies_when(seed: int) -> None:
    # prevents: any order of messages, acknowledgements and deaths in which a message has no owner
    # or two, or a hole's parts have different ones
    site = Site()
    site.add(0, 1)
    drilling = Drilling(site, seed)
    for count in (2, 3):
        drilling.live(100)
        site.add(count - 1, count)
        cut_id = f"cut-{count}"
        drilling.live(60)
        site.order("prepare", cut_id, **{"from": count - 1, "to": count})
        drilling.live(5000, lambda cut_id=cut_id: site.is_vowed(cut_id))
        assert site.is_vowed(cut_id)
        site.order("cut", cut_id)
        drilling.live(200)
    site.publish(*drilling.open_parts)
    site.finish()
    assert [node.group.phase for node in site.nodes] == [Phase.IN_FORCE] * 3
    assert all(node.taken for node in site.nodes)
    assert len(site.sent) > 300
    site.assert_each_message_has_one_owner()
    site.assert_no_hole_is_torn()


def test_a_vow_is_not_repeated_on_a_connection_where_it_may_be_untrue() -> None:
    # prevents: a cut that relies on acknowledgements which went down with a connection
    site = Site()
    node = site.add(0, 1)
    site.add(1, 2)
    site.order("prepare", "c", **{"from": 1, "to": 2})
    node.step()
    assert node.group.vow(node.session[-1][2].encode()) is not None
    node.group.connected(site.now_s)
    site.marks.clear()
    site.beat()
    assert {mark["prepared"] for mark in site.marks} == {""}


def test_who_waits_for_a_list_says_for_whose_and_goes_on_when_it_comes() -> None:
    site = Site()
    old = site.add(0, 1)
    new = site.add(1, 2)
    site.publish(*holes(0))
    site.order("prepare", "c", **{"from": 1, "to": 2})
    site.order("cut", "c")
    while new.done < len(new.session):
        new.step()
    assert new.group.phase is Phase.WAITING
    assert new.group.problems(site.now_s)[0] == "waits for partition 0 to pass the cut: start it"
    new.start()  # which changes nothing
    assert new.group.holds
    while old.done < len(old.session):
        old.step()
    site.beat()
    assert new.group.phase is Phase.IN_FORCE
    assert new.group.share.kept_elsewhere == old.group.share.kept_here != set()


def test_one_that_a_cut_leaves_out_goes_on_waiting_for_its_own() -> None:
    # prevents: a partition beyond the number in force that serves nothing and calls itself in force
    site = Site()
    site.add(0, 1)
    site.add(1, 2)
    late = site.add(2, 3)
    for count in (2, 3):
        cut_id = f"cut-{count}"
        site.order("prepare", cut_id, **{"from": count - 1, "to": count})
        site.finish()
        site.order("cut", cut_id)
        site.publish(*holes(100 * count))
        site.finish()
        expected = Phase.JOINING if count == 2 else Phase.IN_FORCE
        assert (late.group.phase, late.group.share.count) == (expected, count)
    site.assert_each_message_has_one_owner()


def test_orders_that_make_no_sense_change_nothing() -> None:
    # prevents: a cut without its preparation, one that was given up, rubbish on the topic
    site = Site()
    node = site.add(0, 1)
    for order in (
        {"do": "cut", "id": "x"},
        {"do": "prepare", "id": "y", "from": 2, "to": 3},
        {"do": "prepare", "id": "y", "from": 1, "to": 1},
        {"do": "give up", "id": "y"},
        [],
        "rubbish",
        {"do": "prepare"},
    ):
        site.publish(("", "", json.dumps(order)))
    site.order("prepare", "z", **{"from": 1, "to": 2})
    site.order("give up", "z")
    site.order("cut", "z")
    site.finish()
    assert (node.group.share.count, node.group.phase) == (1, Phase.IN_FORCE)
    assert not node.group.share.asks_for_id


def test_the_younger_of_two_with_one_index_ends_and_a_former_life_is_no_rival() -> None:
    # prevents: two farms that answer the same holes; a restart that ends for its own retained mark
    site = Site()
    first = site.add(0, 1)
    first.start()
    site.beat()
    assert not first.group.has_rival
    site.now_s += 1
    second = site.add(0, 1)
    for _ in range(4):
        site.beat()
    assert (first.group.has_rival, second.group.has_rival) == (False, True)
    assert "runs with index 0, too" in " ".join(first.group.problems(site.now_s))


def test_one_that_is_missing_is_seen_by_all_others() -> None:
    site = Site()
    first = site.add(0, 2)
    site.add(1, 2)
    site.beat()
    assert not first.group.problems(site.now_s)
    site.nodes.pop()
    for _ in range(8):
        site.beat()
    assert first.group.problems(site.now_s) == ["partition 1 of 2 is silent for 16 s"]


def test_lists_of_digests_survive_as_text_and_rubbish_is_refused() -> None:
    keys = {bytes([n]) * 8 for n in range(5)}
    assert unpacked(packed(keys)) == keys
    with pytest.raises(ValueError, match="whole number"):
        unpacked("AAAA")


# ---- before a cut --------------------------------------------------------------------------------


def called(*marks: tuple[int, dict[str, Any]]) -> RollCall:
    """A roll call that heard two beats of each."""
    call = RollCall("m/")
    for index, more in marks:
        told = {
            "token": f"t{index}",
            "phase": "in force",
            "count": 1,
            "configured": 1,
            "prepared": "",
            "cut": "",
        } | more
        for beat in (1, 2):
            call.heard(f"m/{index}", json.dumps({"beat": beat} | told).encode())
    return call


JOINS = {"phase": "joining", "configured": 2}


def test_a_cut_is_planned_where_all_live_and_agree() -> None:
    assert called((0, {}), (1, JOINS)).plan() == (1, 2)


@pytest.mark.parametrize(
    ("marks", "says"),
    [
        ([], "no partition of this group"),
        ([(0, {})], "no partition waits to be added"),
        ([(0, {"beat": 1}), (1, JOINS)], "no partition of this group"),
        ([(0, {"count": 2}), (2, JOINS)], "partition 1 does not live"),
        ([(0, {}), (2, {**JOINS, "configured": 3})], "partition 1 of 3 does not live"),
        ([(0, {}), (1, {**JOINS, "configured": 3})], "give all that are added the same"),
        ([(0, {"count": 2}), (1, {"count": 3})], "disagree"),
        ([(0, {}), (0, {"token": "other"}), (1, JOINS)], "runs twice"),
        ([(0, {}), (1, {"phase": "waiting"})], "partition 1 is waiting"),
    ],
)
def test_and_is_refused_where_not(marks: list[tuple[int, dict[str, Any]]], says: str) -> None:
    with pytest.raises(FarmError, match=says):
        called(*marks).plan()
