"""The post holds one worker: starts it, starts it anew, has it leave. The processes are played."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from farm.doors.invite import Invite
from farm.doors.keyring import new_pair
from farm.errors import ExitCode
from farm.fleet import post as module
from farm.fleet.post import MAX_PAUSE_S, PAUSE_S, SETTLED_S, Post

if TYPE_CHECKING:
    from pathlib import Path


class FakeWorker:
    """A process that ends when it is told how."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.signals: list[int] = []

    def poll(self) -> int | None:
        return self.code

    def send_signal(self, signum: int) -> None:
        self.signals.append(signum)


class Played:
    """A post, its clock and its workers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, key_file: Path) -> None:
        self.now_s = 100.0
        self.workers: list[FakeWorker] = []
        self.commands: list[list[str]] = []
        self.key_file = key_file
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(module, "die_with_parent", lambda _pid: True)
        monkeypatch.setattr(subprocess, "Popen", self._popen)
        self.post = Post("ray-1", str(key_file), "node" * 8)

    def _popen(self, command: list[str], **_options: Any) -> FakeWorker:
        self.commands.append(command)
        self.workers.append(FakeWorker())
        return self.workers[-1]

    def look(self, after_s: float = 0.0) -> tuple[bool, bool, str]:
        self.now_s += after_s
        return self.post.look()[1:]


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Played:
    key_file, pair = tmp_path / "ray.key", new_pair()
    Invite("tcp://farm:7003", pair.public, "ray", pair.public, pair.secret).save(key_file)
    return Played(monkeypatch, key_file)


def test_it_runs_a_worker_with_the_key_of_its_node(played: Played) -> None:
    assert played.look() == (True, False, "")
    assert played.look() == (True, False, "")
    [command] = played.commands
    assert command[command.index("--key") + 1] == str(played.key_file)
    assert command[command.index("--name") + 1] == "ray-1"


def test_where_ray_gives_a_gpu_its_worker_takes_that_one(
    played: Played,
) -> None:
    """A GPU that Ray keeps free, and nobody uses."""
    played.look()
    assert "--gpu" not in played.commands[-1]
    played.post = Post("ray-2", str(played.key_file), "node" * 8, has_gpu=True)
    played.look()
    command = played.commands[-1]
    assert command[command.index("--gpu") + 1] == "auto"


def test_a_worker_that_fails_is_started_anew_more_and_more_slowly(played: Played) -> None:
    # prevents: a node that does nothing but load a model which can't be loaded
    played.look()
    pause_s = PAUSE_S
    for _ in range(8):
        played.workers[-1].code = ExitCode.MODEL
        runs, _, fault = played.look()
        assert not runs
        assert "exit code 8 (model)" in fault
        assert not played.look(pause_s * 0.9)[0]
        assert played.look(pause_s * 0.11)[0]
        pause_s = min(2 * pause_s, MAX_PAUSE_S)
    assert played.look(SETTLED_S) == (True, False, "")  # it lives: what was wrong is over
    played.workers[-1].code = -signal.SIGKILL
    assert "SIGKILL" in played.look()[2]
    assert played.look(PAUSE_S)[0]


def test_one_that_an_operator_had_leave_is_replaced_at_once(played: Played) -> None:
    # prevents: a fleet that shrinks for ever with each `farm workers drain`
    played.look()
    played.workers[0].code = ExitCode.OK
    assert played.look() == (True, False, "")
    assert len(played.workers) == 2


def test_one_that_is_told_to_leave_is_not_replaced(played: Played) -> None:
    played.look()
    played.post.leave()
    assert played.workers[0].signals == [signal.SIGTERM]
    assert played.look() == (True, False, "")  # it finishes what it has
    played.workers[0].code = 0
    assert played.look() == (False, True, "")
    assert played.look(MAX_PAUSE_S) == (False, True, "")
    assert len(played.workers) == 1


def test_a_key_that_is_missing_or_open_to_others_is_told_from_the_node(played: Played) -> None:
    # prevents: the one sentence that matters, left in a log on a machine that nobody looks at
    played.key_file.chmod(0o644)
    runs, _, fault = played.look()
    assert not runs
    assert "chmod 600" in fault
    played.key_file.unlink()
    assert "can't be read" in played.look(MAX_PAUSE_S)[2]
    assert not played.workers
