"""Which partition takes a message in: in rest, and around a cut."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from farm.config import Config
from farm.partition import Share, owner

TOOLS = [f"BOX-{n % 7}/UNIT-{n}" for n in range(3000)]


def test_a_tool_has_the_same_owner_in_every_process_and_version() -> None:
    # prevents: partitions that were started from different builds and disagree
    assert [owner(tool, 5) for tool in TOOLS[:12]] == [2, 3, 3, 3, 1, 2, 4, 2, 0, 2, 1, 4]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_a_partition_that_is_added_takes_tools_and_no_other_changes_hands(count: int) -> None:
    # prevents: a cut at which two partitions that both serve would have to hand over to each other
    before = [owner(tool, count) for tool in TOOLS]
    after = [owner(tool, count + 1) for tool in TOOLS]
    moved = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert {b for _, b in moved} == {count}
    assert len(moved) == pytest.approx(len(TOOLS) / (count + 1), rel=0.15)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_shares_are_about_alike(count: int) -> None:
    sizes = [sum(owner(tool, count) == i for tool in TOOLS) for i in range(count)]
    assert sum(sizes) == len(TOOLS)
    assert min(sizes) > 0.85 * len(TOOLS) / count


def moving_tool() -> str:
    """One that is partition 0's of 1 and partition 1's of 2."""
    return next(tool for tool in TOOLS if owner(tool, 2) == 1)


def test_exactly_one_takes_each_message_whatever_the_cut_goes_through() -> None:
    # prevents: the Trace of a hole at the new owner while its Result waits at the old one
    tool = moving_tool()
    old, new = Share(0, 1), Share(1, 1)
    new.is_joining = True
    assert old.takes(tool, "waits")
    for share in (old, new):
        share.prepare(2, [(tool, "waits")] if share is old else [])
    assert [old.takes(tool, "noted"), new.takes(tool, "noted")] == [True, False]
    old.cut()
    new.cut()
    new.is_joining = False
    new.kept_elsewhere |= old.kept_here
    for part_id, is_old in (("waits", True), ("noted", True), ("fresh", False), (None, False)):
        assert [old.takes(tool, part_id), new.takes(tool, part_id)] == [is_old, not is_old]


def test_of_what_stays_nothing_is_noted() -> None:
    # prevents: a list of all holes of a busy site
    share = Share(0, 1)
    share.prepare(2, ())
    for tool in TOOLS:
        assert share.takes(tool, "7")
    share.cut()
    assert len(share.kept_here) == sum(owner(tool, 2) == 1 for tool in TOOLS)


def test_a_cut_that_is_given_up_changes_nothing() -> None:
    share = Share(0, 1)
    share.prepare(2, [(moving_tool(), "7")])
    share.give_up()
    assert not share.asks_for_id
    assert share.owns(moving_tool())


@pytest.mark.parametrize(
    ("partition", "says"),
    [
        ({"count": 2, "index": 2, "group": "g"}, "below partition.count"),
        ({"count": 2}, "must be given"),
        ({"group": "a/b"}, "one topic level"),
    ],
)
def test_what_can_not_be_is_refused(partition: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Config.model_validate({"partition": partition})


def test_a_group_needs_a_journal() -> None:
    # prevents: a cut that is forgotten with the process
    with pytest.raises(ValidationError, match="needs a journal"):
        Config.model_validate({"partition": {"group": "g"}, "journal": {"durability": "off"}})


def test_names_tell_partitions_apart() -> None:
    # prevents: two partitions of one host that share a status topic and its last will
    config = Config.model_validate({"partition": {"group": "g", "count": 2, "index": 1}})
    assert config.partition.named("host") == "host-1"
    assert Config().partition.named("host") == "host"
