"""What the broker notes for people: bounded, whatever strangers send, and right where it counts."""

from __future__ import annotations

import pytest
from fakes import FakeAdapter, make_flow, payload
from shots import busy_shot

from farm import wire
from farm.adapter import Answer, Finished, Status, Terminal
from farm.broker import history as history_module
from farm.broker.history import History, Totals
from farm.broker.incidents import KEPT as INCIDENTS_KEPT
from farm.broker.observation import Observation
from farm.broker.roster import Worker
from farm.broker.tools import DEAD, SHOWN, Tools
from farm.broker.turnover import MAX_ENDS, MAX_PLACES, Turnover
from farm.config import Config
from farm.telemetry.keyboard import Looking, Page
from farm.telemetry.lines import text_of
from farm.telemetry.view import screen


def rows_of(tools: Tools, now_s: float = 1.0) -> dict[str, dict[str, object]]:
    return {row["source"]: row for row in tools.snapshot(now_s)["rows"]}


# ---- tools --------------------------------------------------------------------------------------


def test_names_that_send_rubbish_once_push_out_no_tool_of_the_site() -> None:
    """A stranger whose five thousand names weigh more than fifty tools that drill."""
    tools = Tools(0.0, kept=50)
    for number in range(25):
        for _ in range(6):  # two holes each
            tools.part(f"box/real-{number}", 0.0)
    for number in range(5000):
        tools.part(f"made/up-{number}", 0.0)
        tools.rejected(f"made/up-{number}", "no JSON", 0.0)
    for number in range(5000):
        tools.part(f"lone/up-{number}", 0.0)
        tally = tools.of(f"lone/up-{number}")
        tally.unpaired += 1
        tally.ends[DEAD] += 1
    told = tools.snapshot(1.0)
    assert sum(row["source"].startswith("box/real") for row in told["rows"]) == 25


def test_a_tool_that_comes_back_is_not_told_as_a_new_one() -> None:
    """A title of 40 000 tools, where the site has three hundred that take turns."""
    tools = Tools(0.0, kept=50)
    for _round in range(10):
        for number in range(300):
            tools.part(f"box/{number}", 0.0)
    told = tools.snapshot(1.0)
    assert told["folded"] > 300
    assert told["known"] == len(tools) + told["folded"]
    shot = busy_shot() | {"tools": told}
    page = "\n".join(
        text_of(each) for each in screen(shot, Looking(page=Page.TOOLS), 120, 200).lines
    )
    assert f"of at most {told['known']}" in page
    assert "(all others)" in page
    few = busy_shot(tools=60)
    page = "\n".join(
        text_of(each) for each in screen(few, Looking(page=Page.TOOLS), 120, 200).lines
    )
    assert few["tools"]["folded"] == 0
    assert "at most" not in page


def test_a_flood_of_made_up_names_is_bounded_and_pushes_no_real_tool_out() -> None:
    """A heap that grows with every name a stranger makes up, and hides the tools of the site."""
    tools = Tools(0.0, kept=50)
    for _ in range(30):
        tools.part("box/real", 0.0)
    for number in range(5000):
        tools.rejected(f"made/up-{number}", "no JSON", 0.0)
        tools.part(f"made/up-{number}", 0.0)
        assert len(tools) <= 100
    told = tools.snapshot(1.0)
    assert told["known"] == 5001
    assert len(told["rows"]) <= 2 * SHOWN
    assert rows_of(tools)["box/real"]["parts"] == 30
    everything = [*told["rows"], told["others"]]
    assert sum(row["parts"] for row in everything) == 5030
    assert sum(row["rejected"] for row in everything) == 5000


def test_the_loudest_and_the_worst_are_both_shown() -> None:
    """A tool with three dead holes that is lost among hundreds of louder ones."""
    tools = Tools(0.0)
    for number in range(200):
        for _ in range(10 + number):
            tools.part(f"box/{number}", 0.0)
    tools.part("box/ill", 0.0)
    tools.of("box/ill").ends[DEAD] = 3
    sources = [row["source"] for row in tools.snapshot(1.0)["rows"]]
    assert sources[0] == "box/199"
    assert "box/ill" in sources
    assert len(sources) == len(set(sources)) == SHOWN + 1


def test_rates_are_those_of_this_and_the_last_period() -> None:
    """A tool that was loud at night and is silent since, on top of the list all day."""
    tools = Tools(0.0)
    for _ in range(600):
        tools.part("box/tool", 30.0)
    assert rows_of(tools, 60.0)["box/tool"]["parts_hz"] == 10.0
    tools.rotate(60.0)
    tools.rotate(120.0)
    for _ in range(60):
        tools.part("box/tool", 150.0)
    row = rows_of(tools, 180.0)["box/tool"]
    assert row["parts_hz"] == 0.5  # 60 in the 120 s since the first rotation
    assert row["parts"] == 660
    assert row["silent_s"] == 30.0


def test_a_hostile_name_is_shown_as_its_escape() -> None:
    """A tool's name that sets the operator's terminal."""
    tools = Tools(0.0)
    tools.rejected("box/\x1b[2J" + "x" * 1000, "\x1b]0;owned\x07", 0.0)
    [row] = tools.snapshot(1.0)["rows"]
    assert str(row["source"]).isprintable()
    assert str(row["reason"]).isprintable()
    assert len(str(row["source"])) < 300


def finished(source: str = "box/tool", status: Status = Status.OK, reason: str = "") -> Finished:
    return Finished(source, "7", status, {"big": "value"}, reason, {"of": "parts"}, "m", "h")


def test_a_hole_that_is_negative_and_unsure_is_one_trouble() -> None:
    """A tool that looks twice as bad as it is."""
    seen = Observation(0.0)
    both = Answer(Terminal.PUBLISHED, (), counts=("negative_depths",), quality=0.2)
    seen.answered(1, finished(), both, 1.0)
    seen.answered(2, finished(), Answer(Terminal.PUBLISHED, (), quality=0.9), 1.0)
    [row] = seen.snapshot(2.0)["tools"]["rows"]
    assert (row["troubles"], row["negative_depths"], row["low_quality"]) == (1, 1, 1)
    assert row["quality_mean"] == pytest.approx(0.55)


def test_dead_letters_and_alerts_are_kept_in_words_without_their_payload() -> None:
    """Answers of a megabyte held for a line on a screen; or a list that grows all night."""
    seen = Observation(0.0)
    for number in range(3 * INCIDENTS_KEPT):
        dead = finished(status=Status.FAILED, reason=f"Not paired {number}")
        seen.answered(number, dead, Answer(Terminal.DEAD, ()), float(number))
        seen.answered(0, finished(), Answer(Terminal.PUBLISHED, (), alert="look"), float(number))
    told = seen.snapshot(100.0)["incidents"]
    assert len(told["dead"]) == len(told["alerts"]) == INCIDENTS_KEPT
    assert told["dead"][0]["reason"] == f"Not paired {3 * INCIDENTS_KEPT - 1}"
    assert told["dead"][0]["hole"] == f"0-{3 * INCIDENTS_KEPT - 1}"
    assert told["alerts"][0] == {"age_s": 71.0, "source": "box/tool", "text": "look"}
    assert all(kept.value is None for _, _, kept, _ in seen.incidents._dead)


def test_a_hole_is_followed_through_the_flow_to_its_tool() -> None:
    """Counters that are there and that nobody raises."""
    adapter = FakeAdapter()
    flow = make_flow(Config.model_validate({"correlation": {"optional_parts": "never"}}), adapter)
    worker = flow.roster.hello(name="1", host="h", pid=1, local=True, now_s=0.0)
    flow.dispatcher.ready(worker, wire.Ready(worker.worker_id, "m", "h", 0.1, {}))

    def arrive(kind: str, data: bytes, at_s: float = 0.0) -> None:
        flow.arrived(f"box/tool/{kind}", data, arrived_s=at_s, intake_s=at_s, now_s=at_s)

    arrive("result", payload("7"))
    arrive("trace", payload("7"))
    arrive("result", payload("8"))
    arrive("result", b"no id")
    [entry] = flow.dispatcher.next_jobs(0.0)
    flow.dispatcher.sent([entry], 0.0)
    flow.dispatcher.claimed(wire.Claim(worker.worker_id, [entry.job_id]), 0.0)
    flow.dispatcher.finished(
        wire.Result(worker.worker_id, entry.job_id, "ok", 1, "", {}, "m", "h", 0.1, 0.1), 0.5
    )
    flow.expire(1000.0, 1000.0)
    mid = 0
    while flow.publication(1000.0) is not None:
        mid += 1
        flow.outbox.sent(mid)
        if letter := flow.outbox.confirmed(mid, None):
            flow.delivered(letter, 1000.0)
    [row] = flow.observation.snapshot(1000.0)["tools"]["rows"]
    assert (row["parts"], row["rejected"], row["published"]) == (4, 1, 1)
    assert (row["dead"], row["unpaired"], row["troubles"]) == (1, 1, 2)
    assert "no trace" in str(row["reason"])


# ---- the curves ---------------------------------------------------------------------------------


def test_a_curve_holds_five_minutes_and_no_more() -> None:
    """A list that grows for months."""
    curve = History(0.0)
    for number in range(1, 1000):
        now_s = 2.0 * number
        assert curve.look(now_s, busy=number % 3)
        curve.close(now_s, Totals(10 * number, 8 * number, number), backlog=number)
    told = curve.snapshot()
    assert {len(values) for name, values in told.items() if name != "period_s"} == {150}
    assert told["arrived_hz"][-1] == 5.0
    assert told["ended_hz"][-1] == 4.0
    assert told["dead_hz"][-1] == 0.5
    assert told["backlog"][-1] == 999


def test_a_process_that_was_stopped_leaves_a_gap_of_the_right_length() -> None:
    """A curve whose time axis lies after a SIGSTOP of a minute."""
    curve = History(0.0)
    curve.look(2.0, busy=1)
    curve.close(2.0, Totals(4, 4, 0), backlog=0)
    curve.look(62.0, busy=0)
    curve.close(62.0, Totals(64, 4, 0), backlog=60)
    told = curve.snapshot()
    assert told["arrived_hz"] == [2.0] + [1.0] * 30
    curve.look(1e6, busy=0)
    curve.close(1e6, Totals(64, 4, 0), backlog=60)
    assert len(curve.snapshot()["arrived_hz"]) == history_module.SAMPLES


def test_the_slowest_and_the_busy_are_those_of_their_period() -> None:
    """A slow hole of an hour ago that stays on the curve."""
    curve = History(0.0)
    for latency_s in (0.1, 0.7, 0.2):
        curve.ended(latency_s)
    for busy in (1, 2, 3):
        curve.look(1.0, busy=busy)
    curve.close(2.0, Totals(0, 0, 0), backlog=0)
    curve.close(4.0, Totals(0, 0, 0), backlog=0)
    told = curve.snapshot()
    assert told["slowest_s"] == [0.7, 0.0]
    assert told["busy"] == [2.0, 0.0]


def test_an_empty_curve_has_all_its_names() -> None:
    """A KeyError in the first two seconds of a farm."""
    assert set(History(0.0).snapshot()) == {
        "period_s", "arrived_hz", "ended_hz", "dead_hz", "backlog", "busy", "slowest_s",
    }  # fmt: skip


# ---- workers' places ----------------------------------------------------------------------------


def worker(name: str, pid: int, key: str = "") -> Worker:
    return Worker(pid, name, "host", pid, not key, joined_s=0.0, heard_s=0.0, key=key)


def test_a_new_process_in_a_place_is_a_restart_and_a_second_hello_is_none() -> None:
    """A worker that is counted as restarted because its Hello's reply was lost."""
    turnover = Turnover()
    turnover.came(worker("3", 100))
    turnover.came(worker("3", 100))
    assert turnover.of(worker("3", 100)) == {"restarts": 0, "last_end": ""}
    turnover.went(worker("3", 100), "killed by SIGKILL", 5.0)
    turnover.came(worker("3", 101))
    turnover.came(worker("3", 200, key="line-7"))  # of the same name, from elsewhere
    assert turnover.of(worker("3", 101)) == {"restarts": 1, "last_end": "killed by SIGKILL"}
    assert turnover.of(worker("3", 200, key="line-7")) == {"restarts": 0, "last_end": ""}
    assert turnover.ends(7.0) == [
        {"age_s": 2.0, "key": "", "name": "3", "cause": "killed by SIGKILL"}
    ]


def test_made_up_names_of_workers_are_bounded() -> None:
    """Memory for every name that whoever has a key makes up."""
    turnover = Turnover()
    for number in range(3 * MAX_PLACES):
        turnover.came(worker(f"w{number}", number, key="line-7"))
        turnover.went(worker(f"w{number}", number, key="line-7"), "left", float(number))
    assert len(turnover._places) == MAX_PLACES
    assert len(turnover.ends(0.0)) == MAX_ENDS
