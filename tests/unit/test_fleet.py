"""Which workers there are on Ray, as histories of what was wanted and seen; without Ray."""

from __future__ import annotations

from farm.fleet.fleet import (
    MAX_PAUSE_S,
    PAUSE_S,
    PLACED_WITHIN_S,
    SILENCE_S,
    Fleet,
    Plan,
    Sight,
    shortage,
)

RETIRE_S = 15.0


def fleet_of(wanted: int) -> Fleet:
    fleet = Fleet(retire_timeout_s=RETIRE_S)
    fleet.wanted = wanted
    return fleet


def running(wanted: int) -> Fleet:
    fleet = fleet_of(wanted)
    for name in fleet.step(0.0).start:
        fleet.seen(name, Sight("a", runs=True), 1.0)
    return fleet


def test_as_many_are_asked_for_as_are_wanted_and_no_more() -> None:
    fleet = fleet_of(3)
    assert fleet.step(0.0) == Plan(start=["ray-1", "ray-2", "ray-3"])
    assert fleet.step(1.0) == Plan()  # Ray takes its time: what was asked for is not asked anew
    assert fleet.told()["pending"] == 3


def test_the_last_ones_leave_and_are_ended_when_they_have() -> None:
    fleet = running(3)
    fleet.wanted = 1
    assert fleet.step(2.0) == Plan(leave=["ray-3", "ray-2"])
    fleet.seen("ray-2", Sight("a", runs=True), 3.0)
    fleet.seen("ray-3", Sight("a", runs=False, has_left=True), 3.0)
    assert fleet.step(3.0) == Plan(end=["ray-3"])
    assert fleet.step(2.0 + RETIRE_S) == Plan(end=["ray-2"])  # it hangs: nothing else would end it
    assert fleet.names == ["ray-1"]


def test_those_that_nowhere_run_go_first_and_at_once() -> None:
    # prevents: a running worker that is sent away while one waits for room that there is not
    fleet = running(2)
    fleet.wanted = 4
    assert fleet.step(2.0).start == ["ray-3", "ray-4"]
    fleet.seen("ray-1", Sight("a", runs=False, fault="exit code 8"), 3.0)
    fleet.wanted = 1
    assert fleet.step(4.0) == Plan(leave=["ray-1"], end=["ray-3", "ray-4"])
    assert [member.name for member in fleet.kept] == ["ray-2"]


def test_a_name_is_given_again_only_when_its_bearer_has_gone() -> None:
    # prevents: two workers of one name, of which the operator means one
    fleet = running(2)
    fleet.wanted = 1
    fleet.step(2.0)
    fleet.wanted = 2
    assert fleet.step(3.0).start == ["ray-3"]


def test_one_that_is_silent_is_left_to_ray_which_restarts_it() -> None:
    # prevents: a second actor for each one whose node died, and too many when it is back
    fleet = running(2)
    assert not fleet.silent("ray-1", 1.0 + SILENCE_S)
    assert fleet.silent("ray-1", 1.1 + SILENCE_S)
    assert not fleet.silent("ray-1", 1.2 + SILENCE_S)  # said once
    assert fleet.told()["restarting"] == 1
    assert fleet.step(60.0) == Plan()
    fleet.seen("ray-1", Sight("b", runs=True), 61.0)
    assert (fleet.told()["alive"], fleet.told()["restarting"]) == (2, 0)


def test_one_that_ray_gave_up_is_replaced_after_a_pause_that_doubles() -> None:
    # prevents: a cluster that is flooded with actors which can't start, as where farm is missing
    fleet = fleet_of(1)
    now_s, pauses = 0.0, []
    for _ in range(7):
        [name] = fleet.step(now_s).start
        pauses.append(fleet.lost(name, now_s))
        assert fleet.step(now_s) == Plan()
        now_s += pauses[-1]
    assert pauses == [PAUSE_S, 2.0, 4.0, 8.0, 16.0, MAX_PAUSE_S, MAX_PAUSE_S]
    [name] = fleet.step(now_s).start
    fleet.seen(name, Sight("a", runs=True), now_s)
    assert fleet.lost(name, now_s) == PAUSE_S  # one has run: the next failure is another one


def test_one_that_is_lost_while_it_leaves_is_not_missed() -> None:
    fleet = running(1)
    fleet.wanted = 0
    fleet.step(2.0)
    assert fleet.lost("ray-1", 3.0) == 0.0
    assert fleet.is_empty
    fleet.wanted = 1
    assert fleet.step(3.0).start == ["ray-1"]


def test_a_fault_is_told_once_and_shown_until_it_is_mended() -> None:
    fleet = fleet_of(1)
    fleet.step(0.0)
    broken = Sight("node-7", runs=False, fault="no key")
    assert fleet.seen("ray-1", broken, 1.0) == "no key"
    assert fleet.seen("ray-1", broken, 2.0) == ""
    assert fleet.told()["cause"] == "ray-1 on node-7: no key"
    fleet.cause = "no cluster"
    assert fleet.told()["cause"] == "no cluster"  # it concerns them all
    fleet.cause = ""
    fleet.seen("ray-1", Sight("node-7", runs=True), 3.0)
    assert fleet.told()["cause"] == ""


def test_what_ray_does_not_place_is_counted_after_a_while() -> None:
    fleet = fleet_of(2)
    fleet.step(0.0)
    fleet.seen("ray-1", Sight("a", runs=True), 1.0)
    assert fleet.unplaced(PLACED_WITHIN_S) == 0
    assert fleet.unplaced(PLACED_WITHIN_S + 0.1) == 1


def test_a_shortage_is_told_with_its_cure() -> None:
    demand = {"CPU": 2.0, "GPU": 1.0}
    assert "no living node" in shortage(demand, [])
    apart = shortage(demand, [{"CPU": 8.0}, {"CPU": 1.0, "GPU": 1.0}])  # each on another node
    assert "no node of the Ray cluster has CPU 2, GPU 1 (the most on one: CPU 8, GPU 1)" in apart
    assert "is full" in shortage(demand, [{"CPU": 2.0, "GPU": 4.0}])
