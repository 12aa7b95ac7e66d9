"""The state directory: its place, its lock, and the names in it."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys

import pytest

from farm.config import Config, load_config
from farm.errors import ExitCode, StateError
from farm.state_dir import client_id, endpoints, lock, resolve_state_dir


def config_with(**given):
    return Config.model_validate(given)


# Its place


def test_configured_wins_over_xdg_and_home(tmp_path):
    environ = {"XDG_STATE_HOME": str(tmp_path / "xdg"), "HOME": str(tmp_path / "home")}
    given = config_with(state_dir=tmp_path / "given")
    assert resolve_state_dir(given, environ) == tmp_path / "given"
    assert resolve_state_dir(Config(), environ) == tmp_path / "xdg" / "farm"
    del environ["XDG_STATE_HOME"]
    assert resolve_state_dir(Config(), environ) == tmp_path / "home" / ".local" / "state" / "farm"


def test_the_option_and_the_variable_are_part_of_the_configuration(tmp_path):
    environ = {"FARM_STATE_DIR": str(tmp_path / "variable")}
    loaded = load_config(None, {}, environ)
    assert resolve_state_dir(loaded.config, environ) == tmp_path / "variable"
    loaded = load_config(None, {"state_dir": tmp_path / "option"}, environ)
    assert resolve_state_dir(loaded.config, environ) == tmp_path / "option"


def test_a_relative_xdg_folder_is_ignored(tmp_path):
    environ = {"XDG_STATE_HOME": "state", "HOME": str(tmp_path)}
    assert resolve_state_dir(Config(), environ) == tmp_path / ".local" / "state" / "farm"


def test_a_relative_one_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_state_dir(config_with(state_dir="s"), {}) == tmp_path / "s"


def test_it_is_made_for_its_owner_alone(tmp_path):
    path = resolve_state_dir(config_with(state_dir=tmp_path / "a" / "b"), {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_unusable_ones_are_refused(tmp_path):
    with pytest.raises(StateError, match="no home directory"):
        resolve_state_dir(Config(), {})
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="is not a directory: choose another with --state-dir"):
        resolve_state_dir(config_with(state_dir=tmp_path / "file"), {})
    with pytest.raises(StateError, match="can't be made: Not a directory"):
        resolve_state_dir(config_with(state_dir=tmp_path / "file" / "below"), {})
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)  # anyone could talk to the sockets in it
    with pytest.raises(StateError, match="writable for everyone: chmod 700"):
        resolve_state_dir(config_with(state_dir=tmp_path / "open"), {})


# Its lock


def test_a_second_farm_is_refused_and_told_the_first(tmp_path):
    with lock(tmp_path):
        with pytest.raises(StateError) as raised:
            lock(tmp_path)
        assert str(raised.value) == (
            f"another farm (pid {os.getpid()}) runs in {tmp_path}:"
            " stop it or give this one its own --state-dir"
        )
        assert raised.value.exit_code == ExitCode.LOCKED
    lock(tmp_path).release()


def test_releasing_twice_does_no_harm(tmp_path):
    held = lock(tmp_path)
    held.release()
    held.release()
    lock(tmp_path).release()


def test_a_killed_farm_leaves_no_lock(tmp_path):
    """A lock file that outlives its farm would need a person after every power cut."""
    code = (
        "import sys, pathlib; from farm.state_dir import lock;"
        "held = lock(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(StateError, match=rf"\(pid {child.pid}\)"):
            lock(tmp_path)
    finally:
        child.kill()
        child.communicate(timeout=10)
    lock(tmp_path).release()


def test_started_programs_do_not_inherit_the_lock(tmp_path):
    held = lock(tmp_path)
    with subprocess.Popen(["sleep", "30"], close_fds=False) as child:
        try:
            os.close(held._descriptor)  # as if this process had died
            lock(tmp_path).release()
        finally:
            child.kill()


# The names in it


def test_sockets_are_in_it_unless_configured(tmp_path):
    found = endpoints(Config(), tmp_path)
    assert found.jobs == f"ipc://{tmp_path}/jobs.sock"
    assert found.results == f"ipc://{tmp_path}/results.sock"
    assert found.control == f"ipc://{tmp_path}/control.sock"
    given = config_with(dispatch={"results_endpoint": "tcp://127.0.0.1:7001"})
    assert endpoints(given, tmp_path).results == "tcp://127.0.0.1:7001"
    assert endpoints(given, tmp_path).jobs == f"ipc://{tmp_path}/jobs.sock"


def test_socket_paths_end_where_the_kernel_cuts_them(tmp_path):
    room = 107 - len("/control.sock")
    fits = tmp_path / ("x" * (room - len(str(tmp_path)) - 1))
    endpoints(Config(), fits)
    with pytest.raises(StateError, match=r"too long for a socket \(108 bytes, at most 107\): give"):
        endpoints(Config(), fits.with_name(f"{fits.name}y"))


def test_the_client_id_is_made_once(tmp_path):
    made = client_id(tmp_path)
    assert len(made) == len("farm-") + 8
    assert made.startswith("farm-")
    assert client_id(tmp_path) == made
    (tmp_path / "client_id").write_bytes(b"\xff broken")
    remade = client_id(tmp_path)
    assert remade != made
    assert client_id(tmp_path) == remade


def test_a_full_disk_is_told_with_its_cure(tmp_path, monkeypatch):
    # prevents: a traceback at 3 a.m. when the farm can't even write its pid
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with pytest.raises(StateError, match="No space left on device: make room"):
        lock(tmp_path)
    monkeypatch.undo()
    lock(tmp_path).release()  # and the directory is not left locked
