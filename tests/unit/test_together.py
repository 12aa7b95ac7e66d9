"""Several farms as one: sums, the worst state, who is missing; drawn at every width."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fakes import make_flow
from shots import busy_shot

from farm.broker import snapshot
from farm.cli import root, stats
from farm.config import Config
from farm.errors import ExitCode, NoFarmError, WireError
from farm.telemetry.keyboard import Looking, Page
from farm.telemetry.lines import text_of, width_of
from farm.telemetry.together import together
from farm.telemetry.view import screen, whole


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
    long_state = shot(1, state="FALLING_BEHIND")
    lines = [
        text_of(each)
        for each in whole(together({"/a": shot(0), "/b": long_state, "/c": None}), width)
    ]
    head = next(n for n, line in enumerate(lines) if line.startswith("farm "))
    assert all(len(line) <= width for line in lines)
    assert "FALLING BEHIND" in lines[head + 2]
    assert lines[head + 2].split()[0].endswith("-1")
    assert "…" not in lines[head + 2].removeprefix("…")
    assert "MISSING" in lines[head + 3]
    assert ("published" in lines[head]) == (width >= 149)


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
    assert f"partition  {says}" in [text_of(each) for each in whole(one, 110)]


@pytest.mark.parametrize("page", list(Page))
def test_each_page_can_be_shown_of_several_farms(page: Page) -> None:
    # prevents: a key that ends the view, since several farms as one lack a section
    one = together({"/a": busy_shot(), "/b": busy_shot(is_behind=True), "/c": None})
    for width, height in ((80, 24), (160, 45)):
        picture = screen(one, Looking(page=page), width, height)
        assert len(picture.lines) == height
        assert all(width_of(each) <= width for each in picture.lines)
    assert json.loads(json.dumps(one)) == one


def test_several_farms_have_the_workers_tools_and_curves_of_all() -> None:
    # prevents: a site of which only the first farm is seen
    one = together({"/a": busy_shot(), "/b": busy_shot(tools=3)})
    assert [row["name"] for row in one["workers"]] == [f"{f}:{w}" for f in "01" for w in "1234"]
    assert len(one["tools"]["rows"]) == 13 + 4
    alone = busy_shot()["history"]
    assert one["history"]["arrived_hz"] == [2 * rate for rate in alone["arrived_hz"]]
    assert one["history"]["slowest_s"] == alone["slowest_s"]


def test_a_farm_of_an_older_version_is_drawn_beside_the_others() -> None:
    # prevents: one farm that is not upgraded yet, and a site of which nothing is seen
    newest = busy_shot()
    newest["history"]["new_hz"] = newest["history"]["arrived_hz"]
    sections = [name for name in newest if name not in ("state", "instance")]
    for name in sections:
        older = {key: value for key, value in busy_shot().items() if key != name}
        for shots in ({"/a": newest, "/b": older}, {"/a": older, "/b": newest}):
            one = together(shots)
            has_curve = name == "history"  # the other one has no curves at all
            assert ("new_hz" in one["history"]) == has_curve, "a curve of some, as one of all"
            for page in Page:
                assert len(screen(one, Looking(page=page), 160, 45).lines) == 45, name
            assert whole(one, 160)
    assert set(sections) > {"history", "tools", "incidents", "workers_ended", "throughput", "jobs"}
    bare = {"state": "HEALTHY", "instance": "bare", "workers": [{"name": "1"}]}
    assert whole(together({"/a": bare}), 160)


def test_a_farm_that_can_not_be_understood_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # prevents: "version 6 of the protocol" in place of the nine farms that answer
    def fetch(endpoint: str) -> dict[str, Any]:
        if "old" in endpoint.split("/")[-2]:
            raise WireError("it speaks version 6 of the protocol")
        return shot(0, count=1)

    monkeypatch.setattr(stats, "fetch_stats", fetch)
    places = [str(tmp_path / name) for name in ("new", "old")]
    done = CliRunner().invoke(root, ["stats", "--json", *places])
    told = json.loads(done.output)
    assert (done.exit_code, told["state"]) == (ExitCode.UNHEALTHY, "MISSING")
    assert told["problems"] == [f"{places[1]}: it speaks version 6 of the protocol"]
    alone = CliRunner().invoke(root, ["stats", "--json", places[1]])
    assert isinstance(alone.exception, NoFarmError)
    assert "version 6" in str(alone.exception)


def test_a_plain_file_beside_the_state_directories_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # prevents: `farm stats /var/lib/farm/*` that ends, since a backup lies there as well
    monkeypatch.setattr(stats, "fetch_stats", lambda _endpoint: shot(0, count=1))
    (tmp_path / "a").mkdir()
    (tmp_path / "backup.tar").touch()
    done = CliRunner().invoke(root, ["stats", "--json", *map(str, sorted(tmp_path.iterdir()))])
    assert done.exit_code == ExitCode.OK
    assert [Path(farm["state_dir"]).name for farm in json.loads(done.output)["farms"]] == ["a"]
    done = CliRunner().invoke(root, ["stats", str(tmp_path / "backup.tar")])
    assert done.exit_code == 2
    assert "no folder among these" in done.output


def test_what_is_no_sum_is_not_added() -> None:
    # prevents: a Quality of 1.85, and the oldest trouble shown as the last one
    one, two = busy_shot(), busy_shot()
    rest = {"published": 30, "quality_mean": 0.9, "silent_s": 7.0, "reason": "old"}
    one["tools"]["others"] |= rest | {"parts": 10, "parts_hz": 1.5, "reason_age_s": 60.0}
    rest = {"published": 10, "quality_mean": 0.7, "silent_s": 2.0, "reason": "new"}
    two["tools"]["others"] |= rest | {"parts": 20, "parts_hz": 2.0, "reason_age_s": 5.0}
    others = together({"/a": one, "/b": two})["tools"]["others"]
    assert (others["parts"], others["parts_hz"], others["published"]) == (30, 3.5, 40)
    assert others["quality_mean"] == pytest.approx(0.85)
    assert others["silent_s"] == 2.0
    assert (others["reason"], others["reason_age_s"]) == ("new", 5.0)
    nothing = {"published": 0, "quality_mean": None, "silent_s": None, "reason_age_s": None}
    two["tools"]["others"] |= nothing | {"reason": ""}
    others = together({"/a": one, "/b": two})["tools"]["others"]
    assert (others["quality_mean"], others["silent_s"], others["reason"]) == (0.9, 7.0, "old")
