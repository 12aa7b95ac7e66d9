"""The commands of README.md and docs/ are run, as they stand there, beside a real farm.

What is not run is in `NOT_RUN` with the reason; tests/unit/test_documented_commands.py has click
parse each of them to the last option.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from command_lines import ROOT, Line, lines_of, pages, parse
from otlp_collector import Collector
from rig import DEPTHS, ERRORS, KEYPOINTS, Farm, Hole, Mosquitto, Site, Tool, eventually, settle

from farm.cli import root
from farm.errors import ExitCode, FarmError
from farm.simulation.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# By how the command line begins. Whatever a page shows and is not here is run.
NOT_RUN = {
    "start": "it runs until it is stopped; every test with a farm starts one",
    "broker": "likewise",
    "worker": "likewise; test_other_machines has it",
    "demo": "half a minute, with a farm of its own; test_demo has it",
    "bench": "a minute; test_bench has it",
    "chaos": "minutes; tests/chaos has it",
    "train": "an hour; test_training has it, small",
    "evaluate": "wants a model and holes of one's own; test_training has it",
    "plot": "likewise; test_cli_plot has it",
    "models bench": "a minute of all cores; test_cli_models has it",
    "partition add": "wants a second farm; test_partitions has it",
    "stats --ndjson": "it runs until it is stopped",
    "stats /var/lib/farm/*": "the shell would expand it; test_partitions has several farms",
    "dashboard": "it runs until it is stopped",
    "record": "it listens for minutes; test_recordings has it",
    "recording": "wants a recording; test_recordings has it",
    "replay": "likewise; test_replay has it",
}
ALLOWED = {  # where not OK alone
    "stats": (ExitCode.OK, ExitCode.UNHEALTHY),  # a reload is under way, or intake is paused
    "doctor": (ExitCode.OK, ExitCode.FAILURE),  # this machine may have little room, or be root's
}
CONFIGURATIONS = ("farm.yaml", "etc/farm.yaml", "/etc/farm/farm.yaml")
DEAD = 3  # as many as pages show dead letters


class Sandbox:
    """What the pages' names stand for here, and how a command of theirs is run."""

    def __init__(self, farm: Farm, hole: Hole, letters: list[str]) -> None:
        self._farm = farm
        self._config = farm.home / "commands.yaml"  # its farm's, which listens to other machines
        settings = yaml.safe_load(farm.config_file.read_text())
        door = {"attach": {"listen": f"127.0.0.1:{free_ports(3)}", "public_host": "farm.plant"}}
        self._config.write_text(yaml.safe_dump(settings | door))
        self._hole = hole
        self._letters = letters
        self._done: set[tuple[str, ...]] = set()
        self._everywhere = {"--config", "--state-dir", str(self._config), str(farm.state_dir)}

    def _word(self, word: str) -> str:
        if word in CONFIGURATIONS:
            return str(self._config)
        if word == "8123-42":
            return self._letters.pop()
        known = {"TOOL": self._hole.source, "RESULT_ID": self._hole.result_id, "DIR": "out"}
        return known.get(word, word.replace("/var/lib/farm", str(self._farm.state_dir)))

    def run(self, line: Line, names: str) -> str:
        """Run it; "" or what is wrong."""
        words = list(map(self._word, line.arguments))
        told = tuple(word for word in words if word not in self._everywhere)
        if told in self._done:  # but for a place that the environment has, too
            return ""
        self._done.add(told)
        place = {
            "FARM_STATE_DIR": str(self._farm.state_dir),
            "FARM_CONFIG": str(self._config),
        }
        result = CliRunner(env=place).invoke(root, words)
        code, error = result.exit_code, result.exception
        if isinstance(error, FarmError):
            code = error.exit_code
        is_ours = error is None or isinstance(error, FarmError | SystemExit)
        if is_ours and code in ALLOWED.get(names, (ExitCode.OK,)):
            return ""
        return f"{line}\n  became {' '.join(words)}\n  exit code {code}: {error!r}\n{result.output}"


def spoilt(tool: Tool) -> Hole:
    """A hole that can't be read: a dead letter that may be tried again."""
    return tool.drill().changed("trace", lambda payload: payload.replace(b"[", b"[null,", 1))


def letters_of(farm: Farm) -> list[str]:
    """The dead letters, as `farm dead list` tells them."""
    options = ["--config", str(farm.config_file), "--state-dir", str(farm.state_dir)]
    told = CliRunner().invoke(root, ["dead", "list", "--json", *options]).output
    return [json.loads(line)["hole"] for line in told.splitlines()]


def assert_schemas(site: Site) -> None:
    """All that the farm has published is as docs/schemas says."""
    names = {KEYPOINTS: "key-points", DEPTHS: "depth-estimation", ERRORS: "errors"}
    found: dict[str, int] = dict.fromkeys(names.values(), 0)
    for tail, name in names.items():
        schema = json.loads((ROOT / "docs" / "schemas" / f"{name}.json").read_text())
        for heard in site.heard(tail):
            jsonschema.Draft202012Validator(schema).validate(heard.body)
            found[name] += 1
    assert min(found.values()) > 0, found


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A fake of an OpenTelemetry collector."""
    made = Collector()
    yield made
    made.close()


@pytest.fixture
def plant(
    make_mosquitto: Callable[..., Mosquitto],
    make_site: Callable[..., Site],
    start_farm: Callable[..., Farm],
    collector: Collector,
) -> tuple[Farm, Site]:
    """A farm, and who sends it holes."""
    mosquitto = make_mosquitto(durable=False)
    site = make_site(mosquitto.port)
    telemetry = {"otlp_endpoint": collector.endpoint, "sample_ratio": 1, "export_interval_s": 0.2}
    return start_farm(mosquitto.port, workers=3, telemetry=telemetry), site


@pytest.fixture
def sandbox(
    plant: tuple[Farm, Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Sandbox, Farm, Site]:
    """A farm with an answered hole, dead letters and a key; the working directory is empty."""
    farm, site = plant
    tool, bad = Tool(), Tool()
    holes = [tool.drill(), *(spoilt(bad) for _ in range(DEAD))]
    for hole in holes:
        site.send_hole(hole)
    site.publish(holes[0].part("result").topic, b"{}")  # for the Errors topic
    site.wait_answered(holes)
    settle(site, farm)
    letters = eventually(lambda: letters_of(farm), 10, "dead letters")
    assert len(letters) == DEAD
    monkeypatch.chdir(tmp_path)
    made = Sandbox(farm, holes[0], letters)
    new_key = Line("", ("farm", "keys", "new", "line-7", "--out", "line-7.key"))
    assert not made.run(new_key, "keys new")
    return made, farm, site


@pytest.mark.timeout(240)
def test_the_commands_of_the_pages_do_what_they_say(
    sandbox: tuple[Sandbox, Farm, Site], collector: Collector, tmp_path: Path
) -> None:
    """Prevents pages whose commands are there, and fail."""
    made, farm, site = sandbox
    wrong, ran = [], 0
    for page in pages():
        for line in lines_of(page):
            if line.program != "farm" or "--help" in line.words:
                continue
            names, typed = " ".join(names_of(line)), " ".join(line.arguments)
            if any(f"{typed} ".startswith(f"{begin} ") for begin in NOT_RUN):
                continue
            ran += 1
            if problem := made.run(line, names):
                wrong.append(problem)
    assert not wrong, "\n".join([*wrong, farm.last_lines()])
    assert ran > 20
    assert_logs_at_debug(farm, site)
    assert_schemas(site)
    assert_traced(collector)
    farm.process.terminate()  # type: ignore[union-attr]
    assert farm.wait() == ExitCode.OK
    assert_restores(farm, tmp_path / "restored")


def names_of(line: Line) -> list[str]:
    """The names of the command; files that it names need not be there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("click.Path.convert", lambda _, value, __, ___: value)
        return parse(line.arguments)[0]


def assert_logs_at_debug(farm: Farm, site: Site) -> None:
    """`farm logs level DEBUG` of the pages has reached broker, supervisor and workers."""

    def changed() -> set[str]:
        return {line["process"] for line in farm.events("log_level_changed")}

    # who is asked for orders only now and then hears of it a moment later
    eventually(
        lambda: changed() >= {"broker", "supervisor", "worker 3"}, 10, lambda: f"{changed()}"
    )

    tool = Tool()

    def told(event: str) -> bool:
        """By whoever has it: a worker hears of the level with its next heartbeat."""
        hole = tool.drill()
        site.send_hole(hole)
        site.wait_answered([hole])
        return any(tool.source in str(line) for line in farm.events(event))

    for event in ("message_arrived", "hole_computed", "hole_ended"):
        eventually(lambda event=event: told(event), 10, lambda event=event: f"{event} is logged")


def assert_traced(collector: Collector) -> None:
    """An OpenTelemetry collector hears of each hole, well or not, with all its stages."""
    stages = ["hole", "pair", "wait", "compute", "answer", "publish"]

    def complete() -> set[str]:
        spans = collector.spans()
        found = set()
        for hole in (span for span in spans if span.name == "hole"):
            of_trace = [span.name for span in spans if span.trace_id == hole.trace_id]
            about = {each.key: each.value.string_value for each in hole.attributes}
            if of_trace == stages:
                found.add(about["farm.terminal"])
        return found

    eventually(lambda: complete() >= {"published", "dead"}, 10, lambda: f"traces: {complete()}")


def assert_restores(farm: Farm, place: Path) -> None:
    """The state directory of a stopped farm, copied as docs/operations.md does, is a backup."""
    shutil.copytree(farm.state_dir, place, ignore=shutil.ignore_patterns("*.sock"))
    for words in (["journal", "check"], ["dead", "list"]):
        done = CliRunner().invoke(root, [*words, "--state-dir", str(place)])
        assert done.exit_code == ExitCode.OK, done.output
