"""The schedule, the fleet and the account of a run: everything about units without a network."""

from __future__ import annotations

from itertools import islice
from random import Random

import pytest

from farm.errors import ConfigError
from farm.simulation.archive import RecordedHole
from farm.simulation.drilled import Recipe, drill
from farm.simulation.listener import AnswerListener, AnswerTopics, HoleAnswer
from farm.simulation.mqtt import BrokerAddress
from farm.simulation.report import latency, outcome, percentile
from farm.simulation.restamp import HoleTemplate
from farm.simulation.schedule import OutgoingHole, Plan, arrivals, spread, timeline
from farm.simulation.units import Fleet, Playlist, simulated_fleet

PARTS = (("r", b"R"), ("t", b"T"), ("h", b"H"))


def numbered():
    """A source of the holes h0, h1 and so on."""
    count = iter(range(10**6))
    return lambda: OutgoingHole("box/tool", f"h{next(count)}", PARTS)


def test_even_arrivals_do_not_drift():
    due = list(arrivals(Plan(rate_hz=3, count=3001), Random(1)))
    assert due[:2] == [0.0, pytest.approx(1 / 3)]
    assert due[-1] == 1000.0


def test_random_arrivals_keep_the_rate():
    due = list(arrivals(Plan(rate_hz=50, count=20_000, poisson=True), Random(1)))
    assert due[-1] == pytest.approx(400, rel=0.05)
    assert due == sorted(due)


def test_a_plan_without_count_has_no_end_until_stopped():
    assert len(list(islice(arrivals(Plan(rate_hz=10), Random(1)), 1000))) == 1000
    seen: list[float] = []
    for due_s in arrivals(Plan(rate_hz=10), Random(1), stopped=lambda: len(seen) >= 5):
        seen.append(due_s)  # noqa: PERF402 - the stop looks at it
    assert len(seen) == 5


@pytest.mark.parametrize("wrong", [{"rate_hz": 0}, {"rate_hz": 1, "count": -1}])
def test_impossible_plans_are_refused(wrong):
    with pytest.raises(ConfigError):
        Plan(**wrong)


def test_without_shuffle_the_parts_keep_the_gateways_order():
    hole = numbered()()
    shots = spread(hole, 2.0, plan=Plan(1), rng=Random(1))
    assert [(s.topic, s.due_s, s.first, s.last) for s in shots] == [
        ("r", 2.0, True, False),
        ("t", 2.0, False, False),
        ("h", 2.0, False, True),
    ]


def test_shuffle_gives_every_order_and_skew_stays_inside():
    plan = Plan(1, shuffle=True, skew_s=0.5)
    rng, next_hole = Random(1), numbered()
    orders = set()
    for _ in range(200):
        shots = spread(next_hole(), 0.0, plan=plan, rng=rng)
        orders.add("".join(shot.topic for shot in shots))
        due = [shot.due_s for shot in shots]
        assert due == sorted(due)
        assert due[0] == 0.0
        assert due[-1] <= 0.5
    assert len(orders) == 6


def test_overlapping_holes_come_by_due_time_and_each_is_complete():
    plan = Plan(rate_hz=100, count=50, shuffle=True, skew_s=0.2)
    shots = list(timeline(plan, numbered(), Random(2)))
    assert len(shots) == 150
    due = [shot.due_s for shot in shots]
    assert due == sorted(due)
    for key in {shot.hole.result_id for shot in shots}:
        own = [shot for shot in shots if shot.hole.result_id == key]
        assert [s.first for s in own] == [True, False, False]
        assert [s.last for s in own] == [False, False, True]
        assert {s.topic for s in own} == {"r", "t", "h"}


def test_a_stopped_timeline_ends_every_hole_that_began():
    shots = []
    plan = Plan(rate_hz=100, skew_s=0.3)
    for shot in timeline(plan, numbered(), Random(2), stopped=lambda: len(shots) > 60):
        shots.append(shot)  # noqa: PERF402 - the stop looks at it
    assert sum(shot.first for shot in shots) == sum(shot.last for shot in shots)


def test_the_same_seed_gives_the_same_timeline():
    plan = Plan(rate_hz=100, count=30, poisson=True, shuffle=True, skew_s=0.1)
    first, second = (list(timeline(plan, numbered(), Random(7))) for _ in range(2))
    assert [(s.due_s, s.topic) for s in first] == [(s.due_s, s.topic) for s in second]


@pytest.fixture(scope="module")
def template():
    return HoleTemplate(drill(Recipe("V6-V7", "2025-03"), seed=1).messages)


def test_no_two_holes_of_a_fleet_share_tool_and_id(template):
    fleet = simulated_fleet([[template], [template, template]], tools=3, first_id=10)
    holes = [fleet.next_hole() for _ in range(30)]
    assert len({(hole.source, hole.result_id) for hole in holes}) == 30
    assert {hole.source.split("/")[1] for hole in holes[:3]} == {"SIM-001", "SIM-002", "SIM-003"}
    assert holes[0].result_id == "10"
    assert all(t.startswith(f"OPCPUBSUB/{hole.source}/") for hole in holes for t, _ in hole.parts)


def test_a_fleet_uses_all_holes_of_a_bench(template):
    other = HoleTemplate(drill(Recipe("V6-V7", "2025-03"), seed=2).messages)
    fleet = Fleet({"b/t": [template.bind(), other.bind()]})
    sizes = {len(fleet.next_hole().parts[1][1]) for _ in range(4)}
    assert len(sizes) == 2


def recorded(number: int) -> RecordedHole:
    made = drill(Recipe("V6-V7", "2025-06"), seed=1, number=number)
    return RecordedHole(str(number), made.messages, HoleTemplate(made.messages))


def test_a_playlist_gives_repeated_holes_fresh_ids():
    holes = [recorded(1), recorded(2)]
    playlist = Playlist(holes, root="R", first_id=500)
    played = [playlist.next_hole() for _ in range(4)]
    assert [hole.result_id for hole in played] == ["500", "501", "502", "503"]
    assert {hole.source for hole in played} == {"SIM-BOX-2025-06/SIM-V6-V7"}
    assert played[0].parts[0][0] == "R/SIM-BOX-2025-06/SIM-V6-V7/ResultManagement"
    spread_out = Playlist(holes, root="R", tools=3, first_id=1)
    assert len({spread_out.next_hole().source for _ in range(6)}) == 3


def test_a_playlist_that_keeps_ids_keeps_every_byte():
    holes = [recorded(1)]
    hole = Playlist(holes, root="OPCPUBSUB", first_id=None).next_hole()
    assert hole.result_id == "101"
    assert [raw for _, raw in hole.parts] == [raw for _, raw in holes[0].messages.parts()]


def answered(at_s: float, **changes) -> HoleAnswer:
    return HoleAnswer(at_s, at_s, **({"keypoints_count": 1, "depth_count": 1} | changes))


def test_the_outcome_names_unanswered_repeated_and_strange_holes():
    sent = {("a", str(n)): float(n) for n in range(5)}
    answers = {
        ("a", "0"): answered(0.5),
        ("a", "1"): answered(1.1, depth_count=2),
        ("a", "2"): answered(2.1, is_error=True, reason="Not enough steps"),
        ("a", "3"): HoleAnswer(keypoints_s=3.1, keypoints_count=1),
        ("x", "9"): answered(1.0),
    }
    found = outcome(sent, answers, measure_from_s=0.5)
    assert (found.holes, found.answered, found.strangers) == (5, 3, 1)
    assert found.unanswered == [("a", "3"), ("a", "4")]
    assert found.repeated == [("a", "1")]
    assert found.error_reasons == {"Not enough steps": 1}
    assert not found.good
    assert found.latency.count == 2  # the first was warm-up
    assert found.latency.max_ms == pytest.approx(100)


def test_percentiles_are_nearest_rank():
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert percentile([7.0], 0.5) == 7.0
    assert latency([]).p50_ms is None


def test_the_listener_sorts_answers_by_hole_and_survives_odd_ones():
    listener = AnswerListener(BrokerAddress("127.0.0.1", 1))
    topics = AnswerTopics()
    base = "OPCPUBSUB/box/tool"
    good = b'{"ResultId": "440", "Value": [1, 2, 3]}'
    error = b'{"ResultId": "441", "Value": "Not enough steps", "Error": true}'
    listener.record(f"{base}/{topics.keypoints}", good)
    assert listener.complete == 0
    listener.record(f"{base}/{topics.depth}", good)
    listener.record(f"{base}/{topics.depth}", good)
    listener.record(f"{base}/{topics.depth}", error)
    listener.record(f"{base}/{topics.errors}", b'{"Error": true, "Value": "cut"}')
    for odd in (b"", b"\xff", b"[1]", b"NaN"):
        listener.record(f"{base}/{topics.depth}", odd)
    answers = listener.answers()
    assert listener.complete == 1
    assert answers["box/tool", "440"].repeated
    assert answers["box/tool", "441"].is_error
    assert not answers["box/tool", "441"].complete
    assert (listener.unattributed, listener.unreadable) == (1, 4)
    assert listener.wait_for(1, timeout_s=0)
    assert not listener.wait_for(2, timeout_s=0)
