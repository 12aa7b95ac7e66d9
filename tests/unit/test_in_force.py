"""The configuration in force: what the processes of a farm read while its file changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from farm.config import Config, Loaded, load_config
from farm.config.reload import take_over
from farm.errors import ConfigError
from farm.supervisor.in_force import InForce

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "model: rule\nmqtt:\n  broker:\n    password: s3cret\n"


def make(tmp_path: Path) -> tuple[Path, InForce]:
    source = tmp_path / "etc.yaml"
    source.write_text(GOOD)

    def read() -> Loaded:
        return load_config(source, {}, {})

    return source, InForce(read(), tmp_path, read)


def copied(in_force: InForce) -> Any:
    assert in_force.copy is not None
    return yaml.safe_load(in_force.copy.read_text())


def test_the_copy_follows_a_good_file_and_goes_back_when_told(tmp_path: Path) -> None:
    source, in_force = make(tmp_path)
    assert copied(in_force) == yaml.safe_load(GOOD)
    assert in_force.copy is not None
    assert in_force.copy.stat().st_mode & 0o777 == 0o600  # a password may stand in it
    source.write_text(GOOD + "workers:\n  threads: 3\n")
    assert copied(in_force) == yaml.safe_load(GOOD)  # edited is not yet in force
    assert in_force.renew() == (["workers.threads"], [])
    assert in_force.config.workers.threads == 3
    assert copied(in_force) == yaml.safe_load(source.read_text())
    in_force.take_back()
    assert in_force.config.workers.threads == 1
    assert copied(in_force) == yaml.safe_load(GOOD)


def test_what_needs_a_restart_of_the_farm_waits_for_it(tmp_path: Path) -> None:
    # prevents: a journal that is switched off by the crash of the broker process
    source, in_force = make(tmp_path)
    source.write_text(
        GOOD.replace("s3cret", "other") + "workers:\n  threads: 3\njournal:\n  durability: 'off'\n"
    )
    taken, waiting = in_force.renew()
    assert taken == ["workers.threads"]
    assert waiting == ["mqtt.broker.password", "journal.durability"]
    assert copied(in_force) == yaml.safe_load(GOOD + "workers:\n  threads: 3\n")
    assert load_config(in_force.copy, {}, {}).config == in_force.config


def test_what_the_environment_says_is_not_written_to_disk(tmp_path: Path) -> None:
    # prevents: a password that an operator kept out of files
    source = tmp_path / "etc.yaml"
    source.write_text("model: rule\n")
    environment = {"FARM_MQTT__BROKER__PASSWORD": "s3cret"}

    def read() -> Loaded:
        return load_config(source, {}, environment)

    in_force = InForce(read(), tmp_path, read)
    assert copied(in_force) == {"model": "rule"}
    assert load_config(in_force.copy, {}, environment).config == in_force.config


def test_a_wrong_file_changes_nothing(tmp_path: Path) -> None:
    # prevents: a slip in an editor that ends a running factory
    source, in_force = make(tmp_path)
    before = in_force.config
    source.write_text("model: [\n")
    with pytest.raises(ConfigError):
        in_force.renew()
    assert in_force.config is before
    assert copied(in_force) == yaml.safe_load(GOOD)


def test_a_copy_that_can_not_be_written_changes_nothing(tmp_path: Path) -> None:
    source, in_force = make(tmp_path)
    before = in_force.config
    assert in_force.copy is not None
    in_force.copy.with_suffix(".new").mkdir()  # as good as a full disk, also for root
    source.write_text(GOOD + "workers:\n  threads: 3\n")
    with pytest.raises(OSError, match="directory"):
        in_force.renew()
    assert in_force.config is before
    assert copied(in_force) == yaml.safe_load(GOOD)


def test_secrets_survive_taking_over() -> None:
    # prevents: a farm that can't log in any more after a reload
    running = Config.model_validate({"mqtt": {"broker": {"username": "u", "password": "p"}}})
    new = Config.model_validate(
        {"model": "rule", "mqtt": {"broker": {"username": "u", "password": "p"}}}
    )
    config, taken, waiting = take_over(running, new)
    assert (taken, waiting) == (["model"], [])
    assert config == new


def test_each_reload_is_another_edition_until_it_is_taken_back(tmp_path: Path) -> None:
    # prevents: a nursery that is kept though the operator has replaced the weights
    source, in_force = make(tmp_path)
    first = in_force.edition
    assert in_force.renew() == ([], [])
    second = in_force.edition
    in_force.take_back()
    assert in_force.edition == first
    in_force.renew()
    assert len({first, second, in_force.edition}) == 3
    kept = in_force.edition
    source.write_text("no: such key")
    with pytest.raises(ConfigError):
        in_force.renew()
    assert in_force.edition == kept


def test_workers_can_not_be_moved_to_ray_while_the_farm_runs(tmp_path: Path) -> None:
    # prevents: half a farm on Ray, whose broker and supervisor count other workers
    source, in_force = make(tmp_path)
    ray = "attach: {listen: '*:7003'}\nray: {key_file: /k}\nworkers: {launch: ray}\n"
    source.write_text(GOOD + ray)
    with pytest.raises(ConfigError, match="can't change from nursery to ray while the farm runs"):
        in_force.renew()
    assert in_force.config.workers.launch == "nursery"
    assert copied(in_force) == yaml.safe_load(GOOD)
