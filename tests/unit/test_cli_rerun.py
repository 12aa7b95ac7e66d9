"""`farm rerun`: with which configuration a hole is computed again."""

import pytest
from click.testing import CliRunner
from journals import open_store, published_hole

from farm.cli import root
from farm.supervisor.in_force import COPY_NAME


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.delenv("FARM_CONFIG", raising=False)
    state = tmp_path / "s"
    state.mkdir(mode=0o700)
    store = open_store(state)
    store.write(published_hole(1, part_id="440", source="BOX-7/UNIT-2"))
    store.close(is_clean=True)
    (state / COPY_NAME).write_text("workers: {threads: 3}\n")
    return state


@pytest.fixture
def used(monkeypatch):
    """The configurations with which something was computed."""
    found = []

    def compute(config, kept, parts):
        found.append(config)
        return {"status": kept.status, "value": kept.value, "reason": kept.reason}

    monkeypatch.setattr("farm.cli.rerun._compute", compute)
    monkeypatch.setattr("farm.journal.reader.JournalReader.parts", lambda *_: {})
    return found


def rerun(state, *options):
    return CliRunner().invoke(root, ["rerun", "UNIT-2", "440", "--state-dir", str(state), *options])


def test_without_a_configuration_it_is_the_one_in_force(state, used):
    # prevents: "they DIFFER", or a model that is not here, because the defaults were meant
    assert rerun(state).exit_code == 0
    assert used[0].workers.threads == 3


@pytest.mark.parametrize("is_in_environment", [True, False])
def test_a_configuration_that_is_named_is_used(
    state, used, tmp_path, monkeypatch, is_in_environment
):
    # prevents: a mended file that is tried, and the old one that answers
    file = tmp_path / "other.yaml"
    file.write_text("workers: {threads: 5}\n")
    if is_in_environment:
        monkeypatch.setenv("FARM_CONFIG", str(file))
    assert rerun(state, *([] if is_in_environment else ["--config", str(file)])).exit_code == 0
    assert used[0].workers.threads == 5
