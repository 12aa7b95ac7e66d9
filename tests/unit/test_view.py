"""`farm stats` as drawn: whole cells and whole lines at every width, and again and again."""

from __future__ import annotations

import io
import json

import pytest
from click.testing import CliRunner
from fakes import make_flow
from rich.console import Console

from farm import wire
from farm.broker import snapshot
from farm.cli import root, stats
from farm.config import Config
from farm.errors import NoFarmError
from farm.supervisor.nursery import State
from farm.telemetry.view import STAGE_WORDS, render

UP_S = 23 * 3600 + 59 * 60


@pytest.fixture
def shot():
    """Of a farm with workers whose every cell is about as long as it gets."""
    flow = make_flow(Config())
    for name in range(1, 11):
        worker = flow.roster.hello(
            name=str(name), host="drill-host-07.plant.example", pid=4190000 + name, local=True,
            now_s=0.0,
        )  # fmt: skip
        flow.dispatcher.ready(worker, wire.Ready(worker.worker_id, "depthnet-1", "h1", 0.1, {}))
    around = snapshot.Surroundings(
        instance="drill-host-07",
        mqtt={"state": "connected", "address": "mqtt.plant.example:1883", "reconnects": 2},
        intake={"queued": 12, "braked": False, "paused": True, "lost_qos0": 0},
        journal={"durability": "process", "queued": 17, "failure": "", "life": 7},
        expected_workers=10,
        failed_slots=[(3, "exit code 8 (model)")],
        is_starting=False,
        is_draining=False,
    )
    made = snapshot.build(flow, around, now_s=float(UP_S), started_s=0.0)
    for row in made["workers"]:
        row.update(jobs_done=1_234_567, rss_bytes=312_000_000, job_age_s=12.34, state="draining")
    for summary in made["latency"].values():
        summary.update(p50_s=1.234, p99_s=12.345, max_s=123.456)
    return made


def drawn(shot, width):
    out = io.StringIO()
    Console(file=out, width=width).print(render(shot, width))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 110, 130, 160, 200])
def test_no_line_is_too_long_and_no_cell_is_broken(shot, width):
    # prevents: a table whose cells wrap, so that no line of it can be read
    lines = drawn(shot, width)
    assert max(len(line.rstrip()) for line in lines) <= width
    for stage in shot["latency"]:
        cells = f"{stage} 1234 12345 123456 {STAGE_WORDS[stage]}"
        assert any(" ".join(line.split()).startswith(cells) for line in lines), "\n".join(lines)
    for row in shot["workers"]:
        cells = f"{row['name']} draining 12.3 s 1234567 312 MB"
        if width >= 80:
            cells += " 23 h 59 min depthnet-1"
        if width >= 110:
            cells += f" drill-host-… {row['pid']}"
        assert any(" ".join(line.split()).endswith(cells) for line in lines), "\n".join(lines)


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"state": "ready"}, "nursery ready for 3 min 20 s: workers are forked"),
        (
            {"state": "ready", "made": 3, "cause": "killed by SIGKILL"},
            "nursery ready for 3 min 20 s: workers are forked; made anew 2 times",
        ),
        (
            {"state": "loading", "made": 2, "way": "wait"},
            "nursery loads for 3 min 20 s: workers wait for it; made anew once",
        ),
        (
            {"state": "absent", "cause": "killed by SIGKILL", "way": "exec"},
            "nursery none now (killed by SIGKILL); workers are launched by exec",
        ),
        ({"state": "absent", "way": "wait"}, "nursery none now; workers wait for the next one"),
        (
            {"state": "unfit", "cause": "the model keeps [a] open", "way": "exec"},
            "nursery of no use, the model keeps [a] open: workers are launched by exec",
        ),
        (
            {"state": "spoilt", "cause": "exit code 7 (model)", "way": "refused"},
            "nursery can't load the model: no worker is launched until it can",
        ),
        (
            {"state": "failed", "cause": "killed by SIGSEGV", "way": "exec"},
            "nursery given up (killed by SIGSEGV); workers are launched by exec",
        ),
        (
            {"state": "off", "for_s": None, "way": "exec"},
            "nursery off: workers are launched by exec",
        ),
    ],
)
def test_how_workers_are_launched_is_told(shot, told, line):
    # prevents: ten loaded models where one was meant, or slow restarts, and nothing says why
    shot["nursery"] = {"for_s": 200.0, "made": 1, "way": "fork", "cause": ""} | told
    assert line in [" ".join(each.split()) for each in drawn(shot, 120)]
    for width in (60, 80, 160):
        assert max(len(each.rstrip()) for each in drawn(shot, width)) <= width


@pytest.mark.parametrize("state", [state.value for state in State])
def test_each_state_of_a_nursery_has_its_words(shot, state):
    # prevents: a bare state on the screen, or a picture that can't be drawn
    shot["nursery"] = {"state": state, "for_s": 1.0, "made": 1, "way": "wait", "cause": ""}
    [line] = [each for each in drawn(shot, 120) if each.startswith("nursery")]
    assert len(line.split()) > 3


def test_a_broker_without_local_workers_says_nothing_of_a_nursery(shot):
    assert not [each for each in drawn(shot, 80) if each.startswith("nursery")]


def test_side_by_side_only_where_both_fit(shot):
    for width, is_wide in ((159, False), (160, True)):
        heads = [line for line in drawn(shot, width) if "latency, ms" in line]
        assert len(heads) == 1
        assert ("worker (10)" in heads[0]) is is_wide


def watched(monkeypatch, shot, *options):
    """`farm stats --watch` off a terminal: there, away, there again, Ctrl-C."""
    turns = iter([shot, NoFarmError("away"), shot, KeyboardInterrupt()])

    def fetch(_endpoint):
        turn = next(turns)
        if isinstance(turn, BaseException):
            raise turn
        return turn

    monkeypatch.setattr(stats, "fetch_stats", fetch)
    return CliRunner().invoke(root, ["stats", "--watch", "0.1", *options])


def test_watching_off_a_terminal_prints_each_picture_and_outlasts_a_restart(monkeypatch, shot):
    # prevents: an empty file from `farm stats --watch 5 >file`
    done = watched(monkeypatch, shot)
    assert done.exit_code == 0
    before, gone, after = done.output.partition("the farm does not answer")
    assert gone
    assert before.count("worker (10)") == after.count("worker (10)") == 1
    assert "\x1b" not in done.output


def test_watching_for_machines_prints_json_alone(monkeypatch, shot):
    done = watched(monkeypatch, shot, "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [shot, shot]
    assert "the farm does not answer" in done.stderr


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"alive": 4}, "on Ray 4 wanted, 4 alive"),
        (
            {"alive": 2, "pending": 1, "restarting": 1},
            "on Ray 4 wanted, 2 alive, 1 pending, 1 rest",
        ),
        ({"alive": 4, "leaving": 2}, "on Ray 4 wanted, 4 alive, 2 leaving"),
    ],
)
def test_the_workers_on_ray_are_told_in_a_line(shot, told, line):
    # prevents: a farm that has half of its workers, and nobody can see which half is missing
    fleet = {"wanted": 4, "alive": 0, "pending": 0, "restarting": 0, "leaving": 0, "cause": ""}
    shot["fleet"] = fleet | told
    assert any(" ".join(each.split()).startswith(line) for each in drawn(shot, 120))


def test_a_farm_without_ray_says_nothing_of_it(shot):
    assert not [each for each in drawn(shot, 80) if each.startswith("on Ray")]
