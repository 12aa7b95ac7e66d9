"""The configuration in force: what the processes of a farm read while its file changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from farm.config import Config, load_config
from farm.config.reload import take_over
from farm.errors import ConfigError
from farm.supervisor.in_force import InForce

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "model: rule\nmqtt:\n  broker:\n    password: s3cret\n"


def make(tmp_path: Path) -> tuple[Path, InForce]:
    source = tmp_path / "etc.yaml"
    source.write_text(GOOD)

    def read() -> Config:
        return load_config(source, {}, {}).config

    return source, InForce(read(), source, tmp_path, read)


def test_the_copy_follows_a_good_file_and_goes_back_when_told(tmp_path: Path) -> None:
    source, in_force = make(tmp_path)
    assert in_force.copy is not None
    assert in_force.copy.read_text() == GOOD
    assert in_force.copy.stat().st_mode & 0o777 == 0o600  # a password may stand in it
    source.write_text(GOOD + "workers:\n  threads: 3\ndispatch:\n  max_attempts: 9\n")
    assert in_force.copy.read_text() == GOOD  # edited is not yet in force
    assert in_force.renew() == (["workers.threads"], ["dispatch.max_attempts"])
    assert in_force.config.workers.threads == 3
    assert in_force.config.dispatch.max_attempts == 3  # only from the next start on
    assert in_force.copy.read_text() == source.read_text()
    in_force.take_back()
    assert in_force.config.workers.threads == 1
    assert in_force.copy.read_text() == GOOD


def test_a_wrong_file_changes_nothing(tmp_path: Path) -> None:
    # prevents: a slip in an editor that ends a running factory
    source, in_force = make(tmp_path)
    before = in_force.config
    source.write_text("model: [\n")
    with pytest.raises(ConfigError):
        in_force.renew()
    assert in_force.config is before
    assert in_force.copy is not None
    assert in_force.copy.read_text() == GOOD


def test_secrets_survive_taking_over() -> None:
    # prevents: a farm that can't log in any more after a reload
    running = Config.model_validate({"mqtt": {"broker": {"username": "u", "password": "p"}}})
    new = Config.model_validate(
        {"model": "rule", "mqtt": {"broker": {"username": "u", "password": "p"}}}
    )
    config, taken, waiting = take_over(running, new)
    assert (taken, waiting) == (["model"], [])
    assert config == new
