"""The options of `farm bench` that are refused before anything is started, and what they become."""

from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner
from test_bench_figures import measured

from farm.cli import bench
from farm.cli.bench import _settings, command
from farm.errors import ConfigError, FarmError, ModelError
from farm.simulation.bench.drive import Load
from farm.simulation.bench.rounds import Orders, Round


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--set", "journal.durability"), "must be KEY=VALUE"),
        (("--set", "log.level=[1"), "can't be read"),
        (("--plot", "bench.pdf"), "must end in .png"),
        (("--plot", "no/such/folder/bench.png"), "no such folder"),
        (("--against", "celery"), "'celery' is not one of 'pool', 'raw'"),
    ],
)
def test_a_wrong_option_is_refused_before_minutes_are_spent(words, told):
    done = CliRunner().invoke(command, list(words))
    assert done.exit_code == 2
    assert told in done.output


@pytest.mark.parametrize("key", ["workers.thread", "nonsense"])
def test_an_unknown_setting_is_refused_here_and_not_in_the_farm_s_log(key):
    with pytest.raises(ConfigError, match=key):
        _settings("", None, "process", {key: 1})


def test_a_runtime_is_the_built_in_model_s_alone():
    # prevents: a setting that a model of one's own may take for something else, or refuse
    with pytest.raises(FarmError, match="--runtime"):
        _settings("rule", "int8", "process", {})


def test_settings_come_by_section_and_the_last_word_is_the_assignment_s():
    found = _settings("null", None, "off", {"dispatch.max_attempts": 2, "journal.keep_s": 5.0})
    assert found == {
        "model": "farm.models.null:NullModel",
        "journal": {"durability": "off", "keep_s": 5.0},
        "dispatch": {"max_attempts": 2},
    }
    assert _settings("", "int8", "off", {})["model_settings"] == {"runtime": "int8"}


def test_a_null_model_of_a_chosen_cost_is_one_that_has_a_rate_of_its_own():
    # prevents: a limit that is left out, and so a throughput that means nothing
    found = _settings("null:2.5", None, "off", {})
    assert found["model"] == "farm.models.null:NullModel"
    assert found["model_settings"] == {"cost_ms": 2.5}
    load = Load("nowhere", tools=1)
    free, costly = (
        Orders(load, 20, 1, _settings(spec, None, "off", {}), "auto") for spec in ("null", "null:2")
    )
    assert free.is_null
    assert not costly.is_null


@pytest.mark.parametrize("spec", ["null:", "null:x", "null:-1", "null:nan", "null:1e9"])
def test_a_cost_that_is_none_is_refused(spec: str):
    with pytest.raises(click.BadParameter, match="null:MS"):
        _settings(spec, None, "off", {})


class TwoOfThree:
    """Rounds of which the third fails."""

    rounds = 2

    def __init__(self, _orders, _tell, done):
        self._done = done

    def __enter__(self):
        return self

    def __exit__(self, *_details):
        pass

    def run(self):
        for _ in range(self.rounds):
            self._done.append(Round({"farm": measured("farm", 100)}))
        raise ModelError("the worker of round 3 can't load its model")


def test_a_round_that_fails_leaves_those_before_it(monkeypatch):
    # prevents: an hour of rounds that is lost with the last of them
    monkeypatch.setattr(bench.signal, "signal", lambda *_: None)
    monkeypatch.setattr(bench, "Rounds", TwoOfThree)
    done = CliRunner().invoke(command, ["--repeat", "3", "--json", "--no-limits"])
    assert [one["farm"] for one in json.loads(done.stdout)["rounds"]] == [100, 100]
    assert "failed after 2 of 3 rounds" in done.stderr
    assert isinstance(done.exception, ModelError), "it becomes the exit code"
    monkeypatch.setattr(TwoOfThree, "rounds", 0)
    done = CliRunner().invoke(command, ["--repeat", "3", "--json", "--no-limits"])
    assert isinstance(done.exception, ModelError)
    assert done.stdout == ""
