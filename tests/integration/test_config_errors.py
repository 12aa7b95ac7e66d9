"""Every kind of mistake in a configuration, through the real commands: exit code and place."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from rig import clean_environment, farm_command, run_farm

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


def _check(tmp_path: Path, text: str, **environment: str) -> tuple[int, str]:
    file = tmp_path / "farm.yaml"
    file.write_text(text)
    done = subprocess.run(
        farm_command("config", "check", "--config", file),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=clean_environment() | environment,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        # an unknown key names its nearest neighbour
        ("mqtt:\n  broker:\n    hots: x\n", ["farm.yaml:3", "mqtt.broker.hots", "host"]),
        # a wrong type names key, value and what is allowed
        (
            "mqtt:\n  broker:\n    port: many\n",
            ["farm.yaml:3", "mqtt.broker.port", "many", "whole number"],
        ),
        # out of bounds
        ("mqtt:\n\n  broker:\n    port: 70000\n", ["farm.yaml:4", "70000", "at most 65535"]),
        ("workers:\n  heartbeat_interval_s: .inf\n", ["farm.yaml:2", "heartbeat_interval_s"]),
        # not one of the choices
        (
            "mqtt:\n  listener:\n    duplicate_handling: maybe\n",
            ["farm.yaml:3", "maybe", "ignore, replace, error"],
        ),
        # two keys that don't fit together
        (
            "workers:\n  heartbeat_timeout_s: 0.5\n",
            ["farm.yaml:2", "heartbeat_timeout_s", "0.5", "more than twice"],
        ),
        # answers that would come back in
        (
            "mqtt:\n  estimation:\n    keypoints: ResultManagement\n",
            ["farm.yaml:3", "mqtt.estimation.keypoints", "listen"],
        ),
        # not YAML
        ("mqtt: [\n", ["farm.yaml:2", "not valid YAML"]),
        # a key twice
        ("model: rule\nmodel: rule\n", ["farm.yaml:2", "model is given twice", "line 1"]),
        # a section that is no mapping
        ("mqtt: yes\n", ["farm.yaml:1", "mqtt", "mapping"]),
        # no name of a model, and no safe endpoint
        ("model: depth\n", ["farm.yaml:1", "depth", "package.module:Class"]),
        (
            "dispatch:\n  jobs_endpoint: tcp://0.0.0.0:7001\n",
            ["farm.yaml:2", "tcp://0.0.0.0:7001", "loopback"],
        ),
        # credentials twice
        (
            "mqtt:\n  broker:\n    username: a\n    username_file: /b\n",
            ["farm.yaml:4", "username_file", "not both"],
        ),
    ],
)
def test_a_mistake_in_the_file_is_told_with_line_key_value_and_what_is_allowed(
    tmp_path: Path, text: str, told: list[str]
) -> None:
    # prevents: a mistake that is ignored, or a message that sends people searching
    code, message = _check(tmp_path, text)
    assert code == 3
    for words in told:
        assert words in message, message


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    # prevents: a correction, a start and a wait for each single mistake
    code, message = _check(tmp_path, "model: x\nmqtt:\n  broker:\n    port: 0\n    kepalive: 9\n")
    assert code == 3
    for words in ("farm.yaml:1", "farm.yaml:4", "farm.yaml:5"):
        assert words in message, message


def test_a_mistake_in_the_environment_names_the_variable(tmp_path: Path) -> None:
    # prevents: a variable with a typing error that silently does nothing
    code, message = _check(tmp_path, "", FARM_MQTT__BROKER__PORT="x", MQTT_BROKER_PORT="")
    assert code == 3
    assert "FARM_MQTT__BROKER__PORT" in message
    code, message = _check(tmp_path, "", FARM_MQTT__BROKER__PROT="1883")
    assert code == 3
    assert "FARM_MQTT__BROKER__PROT" in message


def test_a_password_never_stands_in_a_message(tmp_path: Path) -> None:
    # prevents: passwords that end up in logs and tickets
    code, message = _check(
        tmp_path, "mqtt:\n  broker:\n    password: hunter2\n    pasword: hunter3\n    port: x\n"
    )
    assert code == 3
    assert "hunter" not in message


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    # prevents: a farm on defaults because of a typing error in --config
    done = run_farm("config", "check", "--config", tmp_path / "nowhere.yaml")
    assert done.returncode == 3
    assert "nowhere.yaml: no such file" in done.stderr


def test_farm_start_refuses_before_it_starts_anything(tmp_path: Path) -> None:
    # prevents: a half started farm, and workers that fail one by one on the same mistake
    file = tmp_path / "farm.yaml"
    file.write_text("workers:\n  count: 3\n")
    state_dir = tmp_path / "state"
    done = run_farm("start", "--config", file, "--state-dir", state_dir)
    assert done.returncode == 3
    assert f"{file}:2: unknown key workers.count" in done.stderr
    assert not state_dir.exists()


def test_a_state_directory_with_too_long_a_path_is_refused_with_the_cure(tmp_path: Path) -> None:
    # prevents: a socket that can't be bound, told as an errno by a child process
    deep = tmp_path / ("x" * 100)
    done = run_farm("start", "--state-dir", deep)
    assert done.returncode == 4
    assert "too long for a socket" in done.stderr
    assert "--state-dir" in done.stderr


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("model: nowhere.to:BeFound\n", "nowhere"),
        ("traffic:\n  adapter: farm.errors:FarmError\n", "traffic.adapter"),
    ],
)
def test_a_class_that_is_none_ends_the_farm_with_a_reason(
    tmp_path: Path, settings: str, words: str
) -> None:
    # prevents: endless restarts over a name that is spelled wrong
    file = tmp_path / "farm.yaml"
    quick = "supervisor:\n  backoff_initial_s: 0.05\n  backoff_max_s: 0.1\n  restart_budget: 1\n"
    file.write_text(settings + quick + "mqtt:\n  broker:\n    port: 1\n")
    done = run_farm("start", "--config", file, "--state-dir", tmp_path / "s", "--workers", 1)
    assert done.returncode in (3, 7), done.stdout
    assert words in done.stdout + done.stderr
