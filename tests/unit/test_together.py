"""Several farms as one: sums, the worst state, who is missing; drawn at every width."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from fakes import make_flow
from rich.console import Console

from farm.broker import snapshot
from farm.cli import root, stats
from farm.config import Config
from farm.errors import ExitCode, NoFarmError
from farm.telemetry import together as module
from farm.telemetry import view
from farm.telemetry.together import render, together

if TYPE_CHECKING:
    from pathlib import Path


def shot(index: int, *, count: int = 3, state: str = "HEALTHY", **more: Any) -> dict[str, Any]:
    """Of one partition."""
    around = snapshot.Surroundings(
        instance=f"drill-host-07.plant.example-{index}",
        mqtt={"state": "connected", "address": "mqtt:1883", "reconnects": 0},
        intake={"queued": 0, "braked": False, "paused": False, "lost_qos0": 0},
        journal={"durability": "process", "queued": 0, "failure": "", "life": 7},
        expected_workers=0,
        failed_slots=[],
        is_starting=False,
        is_draining=False,
        partition={
            "group": "g",
            "index": index,
            "count": count,
            "configured": count,
            "phase": "in force",
            "kept_here": 0,
            "kept_elsewhere": 0,
            "silent_s": {},
        },
    )
    made = snapshot.build(make_flow(Config()), around, now_s=86_340.0, started_s=0.0)
    made |= {"state": state, "problems": []} | more
    made["holes"] |= {"arrived": 1_234_567, "published": 1_234_000, "dead": 567}
    return made


def test_sums_and_the_worst_state_stand_on_top() -> None:
    one = together({"a": shot(0), "b": shot(1, state="FALLING_BEHIND"), "c": shot(2)})
    assert one["state"] == "FALLING_BEHIND"
    assert one["holes"]["arrived"] == 3 * 1_234_567
    assert [farm["state_dir"] for farm in one["farms"]] == ["a", "b", "c"]
    assert json.loads(json.dumps(one)) == one


def test_one_that_does_not_answer_is_worse_than_anything() -> None:
    # prevents: a sum over two of three partitions that looks like a healthy site
    one = together({"a": shot(0), "b": None, "c": shot(2)})
    assert one["state"] == "MISSING"
    assert one["problems"] == ["b: no farm answers"]


def test_one_that_was_not_named_or_named_twice_is_a_problem() -> None:
    # prevents: a cron job that was written for two partitions and never sees the third
    two = together({"a": shot(0), "b": shot(1)})
    assert two["problems"] == ["partition 2 of 3 of group g is in none of these folders"]
    assert two["state"] == "UNHEALTHY"
    twice = together({"a": shot(0, count=1), "b": shot(0, count=1)})
    assert twice["problems"] == ["partition 0 of group g is in 2 of these folders"]


def test_problems_say_whose_they_are() -> None:
    one = together({"a": shot(0, count=1, state="UNHEALTHY", problems=["no worker is READY"])})
    assert one["problems"] == ["drill-host-07.plant.example-0: no worker is READY"]


@pytest.mark.parametrize("width", [80, 149, 150, 160])
def test_every_farm_has_one_line_at_every_width(width: int) -> None:
    # prevents: a table whose cells wrap, so that no line of it can be read
    out = io.StringIO()
    console = Console(file=out, width=width)
    long_state = shot(1, state="FALLING_BEHIND")
    console.print(render(together({"/a": shot(0), "/b": long_state, "/c": None}), width))
    lines = out.getvalue().splitlines()
    head = next(n for n, line in enumerate(lines) if line.startswith("farm "))
    assert len(lines) - head == 4
    assert all(len(line) <= width for line in lines)
    assert "FALLING BEHIND" in lines[head + 2]
    assert lines[head + 2].split()[0].endswith("-1")
    assert "…" not in lines[head + 2].removeprefix("…")
    assert "MISSING" in lines[head + 3]
    assert ("published" in lines[head]) == (width >= module.WIDE_COLUMNS)


def test_the_command_asks_each_folder_and_its_exit_code_tells(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shots = {"a": shot(0, count=2), "b": shot(1, count=2)}

    def fetch(endpoint: str) -> dict[str, Any]:
        name = endpoint.split("/")[-2]
        if name not in shots:
            raise NoFarmError("nobody")
        return shots[name]

    monkeypatch.setattr(stats, "fetch_stats", fetch)

    def run(*names: str) -> tuple[int, str]:
        places = [str(tmp_path / name) for name in names]
        done = CliRunner().invoke(root, ["stats", "--json", *places])
        return done.exit_code, done.output

    code, text = run("a", "b")
    assert (code, json.loads(text)["state"]) == (ExitCode.OK, "HEALTHY")
    assert run("a", "x")[0] == ExitCode.UNHEALTHY
    done = CliRunner().invoke(root, ["stats", str(tmp_path / "x")])
    assert isinstance(done.exception, NoFarmError)
    assert CliRunner().invoke(root, ["stats", "a", "--state-dir", "b"]).exit_code == 2


def test_a_cut_without_a_group_is_refused() -> None:
    done = CliRunner().invoke(root, ["partition", "add"])
    assert "partition.group is empty" in str(done.exception)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, "0 of 3 in g, in force"),
        ({"configured": 2}, "0 of 3 in g, in force (the configuration says 2)"),
        ({"kept_here": 7}, "0 of 3 in g, in force, keeps 7 holes of tools that went to others"),
    ],
)
def test_one_farm_tells_its_share(more: dict[str, Any], says: str) -> None:
    one = shot(0)
    one["partition"] |= more
    out = io.StringIO()
    Console(file=out, width=110).print(view.render(one, 110))
    assert f"partition  {says}" in " ".join(out.getvalue().split("\n"))
