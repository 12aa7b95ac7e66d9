"""The launcher with a nursery that is played: real sockets, no process."""

from __future__ import annotations

import array
import signal
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from farm import wire
from farm.config import Config
from farm.errors import ExitCode
from farm.gpus import Gpu, Plan
from farm.supervisor.launcher import Launcher
from farm.supervisor.nursery import FORK_TIMEOUT_S, Way
from farm.supervisor.pool import Slot
from farm.supervisor.restart import RestartPolicy
from farm.supervisor.spawning import Cradle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NURSERY_PID = 100
WORKER_PID = 200


def make_policy() -> RestartPolicy:
    return RestartPolicy(initial_s=0.2, max_s=5.0, budget=100, window_s=60.0)


@dataclass
class FakeProcess:
    pid: int = NURSERY_PID


@dataclass
class FakeChildren:
    """Keeps what it was asked for."""

    alive: bool = True
    taken: list[int] = field(default_factory=list)
    spawned: list[list[str]] = field(default_factory=list)
    environments: list[dict[str, str]] = field(default_factory=list)
    told: list[tuple[int, int]] = field(default_factory=list)

    def take(self, child: Any) -> int:
        self.taken.append(child.pid)
        return int(child.pid)

    def spawn(self, arguments: list[str], environment: Mapping[str, str] | None = None) -> int:
        self.spawned.append(arguments)
        self.environments.append(dict(environment or {}))
        return 300

    def adopt(self, pid: int) -> bool:
        self.taken.append(pid)
        return self.alive

    def signal(self, pids: list[int], signum: int) -> None:
        self.told += [(pid, signum) for pid in pids]


class Played:
    """A launcher, and the other end of its socket."""

    def __init__(self, **workers: Any) -> None:
        self.config = Config.model_validate({"model": "rule", "workers": workers})
        self.edition = 0
        self.children = FakeChildren()
        ours, self.control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.control.setblocking(False)
        cradle = Cradle(FakeProcess(), ours)  # type: ignore[arg-type]
        if self.config.workers.launch == "nursery":
            cradle.tell(self.config, "ipc:///s/control")
        self.launcher = Launcher(
            self.children,  # type: ignore[arg-type]
            ["--state-dir", "/s"],
            config=lambda: self.config,
            edition=lambda: self.edition,
            make_policy=make_policy,
            control_endpoint="ipc:///s/control",
            early=cradle,
        )
        self.slot = Slot("3", make_policy())

    def turn(self, now_s: float, *, keeps_former: bool = False) -> list[tuple[Slot, int]]:
        """As the supervisor's loop: the workers that were born sit in their slots."""
        self.launcher.keep_nursery(now_s, is_needed=True, keeps_former=keeps_former)
        born = []
        for slot, pid in self.launcher.born(now_s):
            slot.pid = pid
            born.append((slot, pid))
        return born

    def request(self) -> wire.Message:
        return wire.decode([self.control.recv(1_000_000)])

    def come_up(self, unfit: str = "") -> None:
        self.turn(0.0)
        assert isinstance(self.request(), wire.Load)
        self.control.send(wire.encode(wire.NurseryReady(unfit, "m1", 2.0)))
        self.turn(3.0)

    def asked(self) -> tuple[str, socket.socket]:
        """The name of a worker that is to be forked, and its birth socket."""
        frame, sent, _, _ = self.control.recvmsg(4096, socket.CMSG_SPACE(4))
        request = wire.decode([frame])
        assert isinstance(request, wire.Fork)
        [descriptor] = array.array("i", sent[0][2])
        return request.name, socket.socket(fileno=descriptor)


@pytest.fixture
def played() -> Iterator[Played]:
    made = Played()
    yield made
    made.launcher.close()
    made.control.close()


def test_a_nursery_is_told_what_to_load_as_the_broker_tells_a_worker(played: Played) -> None:
    # prevents: workers that find the inherited model to be of another configuration
    played.turn(0.0)
    load = played.request()
    assert isinstance(load, wire.Load)
    assert Config.model_validate(load.config).model == "rule"
    assert load.control_endpoint == "ipc:///s/control"
    assert played.children.taken == [NURSERY_PID]
    assert played.launcher.way(1.0) is Way.WAIT


def test_a_forked_worker_begins_when_it_sits_in_its_slot(played: Played) -> None:
    played.come_up()
    assert played.launcher.way(3.0) is Way.FORK
    played.launcher.fork(played.slot, 3.0)
    assert played.launcher.is_asked(played.slot)
    name, birth = played.asked()
    assert name == "3"
    assert played.turn(3.0) == []  # it has not reported yet
    birth.send(str(WORKER_PID).encode())
    assert played.turn(3.1) == [(played.slot, WORKER_PID)]
    assert birth.recv(16) == wire.BEGIN
    assert birth.recv(16) == b""  # the socket is of no more use
    assert not played.launcher.is_asked(played.slot)
    assert WORKER_PID in played.children.taken


def test_a_newborn_whose_slot_is_gone_is_told_to_go(played: Played) -> None:
    # prevents: a worker that nobody counts, restarts or ends, after a scale in the wrong moment
    played.come_up()
    played.launcher.fork(played.slot, 3.0)
    _, birth = played.asked()
    birth.send(str(WORKER_PID).encode())
    assert list(played.launcher.born(3.1)) == [(played.slot, WORKER_PID)]  # nobody seats it
    assert birth.recv(16) == b""


@pytest.mark.parametrize("is_dead_already", [False, True])
def test_a_birth_that_fails_is_told_as_such(played: Played, is_dead_already: bool) -> None:
    # prevents: a slot that waits for ever for a fork that had no memory
    played.come_up()
    played.launcher.fork(played.slot, 3.0)
    _, birth = played.asked()
    if is_dead_already:
        birth.send(str(WORKER_PID).encode())
        played.children.alive = False
    birth.close()
    assert played.turn(3.1) == [(played.slot, 0)]
    assert played.children.told == []  # no fault of the nursery's


def test_a_nursery_that_does_not_fork_in_time_is_killed_and_the_worker_told_of(
    played: Played,
) -> None:
    # prevents: a farm that loses its workers one by one to a nursery that was stopped
    played.come_up()
    other = Slot("4", make_policy())
    for slot in (played.slot, other):
        played.launcher.fork(slot, 3.0)
    assert played.turn(3.0 + FORK_TIMEOUT_S) == []
    assert played.turn(3.1 + FORK_TIMEOUT_S) == [(played.slot, 0), (other, 0)]
    assert played.children.told == [(NURSERY_PID, signal.SIGKILL)]  # once
    assert played.launcher.way(7.0) is Way.WAIT
    _, birth = played.asked()
    with pytest.raises(OSError):  # noqa: PT011 - a pipe that is broken, however it is called
        birth.send(b"200")  # who comes late has nobody to begin for


def test_a_request_to_a_nursery_that_has_gone_fails_like_a_birth(played: Played) -> None:
    played.come_up()
    played.control.close()
    played.launcher.fork(played.slot, 3.0)
    assert played.turn(3.1) == [(played.slot, 0)]


def test_workers_start_by_themselves_where_nothing_can_be_forked(played: Played) -> None:
    with capture_logs() as told:
        played.come_up(unfit="the model has opened a socket")
        assert played.launcher.way(3.0) is Way.EXEC
        assert played.launcher.exec(played.slot) == 300
        assert played.launcher.ended(NURSERY_PID, 0, 3.1, is_out_of_memory=False)
    assert played.children.spawned == [["worker", "--name", "3", "--state-dir", "/s"]]
    assert played.launcher.way(100.0) is Way.EXEC
    [line] = told  # once, and not a word about its end, which was announced
    assert line["event"] == "workers_by_exec"
    assert "opened a socket" in line["cause"]


def test_a_bad_model_is_refused_and_not_loaded_by_each_worker(played: Played) -> None:
    played.turn(0.0)
    assert played.launcher.ended(NURSERY_PID, ExitCode.MODEL, 3.0, is_out_of_memory=False)
    assert played.launcher.way(3.0) is Way.REFUSED


def test_rubbish_from_a_nursery_ends_it(played: Played) -> None:
    played.come_up()
    played.control.send(b"rubbish")
    played.turn(4.0)
    assert played.children.told == [(NURSERY_PID, signal.SIGKILL)]


def test_another_process_that_ends_is_not_a_nursery(played: Played) -> None:
    played.come_up()
    assert not played.launcher.ended(WORKER_PID, 0, 4.0, is_out_of_memory=False)


def test_without_a_nursery_the_one_that_was_begun_early_is_let_go() -> None:
    # prevents: a process that waits for ever for an order, beside a farm that wants none
    played = Played(launch="exec")
    played.turn(0.0)
    assert played.launcher.way(0.0) is Way.EXEC
    assert played.control.recv(16) == b""
    assert played.children.taken == [NURSERY_PID]  # it is waited for
    played.control.close()


def test_a_reload_keeps_the_former_nursery_until_it_is_over(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    # prevents: a reload that is taken back, and workers that wait for a nursery all the same
    played.come_up()
    former = played.config
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    monkeypatch.setattr(
        "farm.supervisor.launcher.spawn_nursery", lambda: Cradle(FakeProcess(101), ours)
    )
    played.config = Config.model_validate({"model": "pack.module:Net"})
    played.turn(10.0, keeps_former=True)
    assert played.launcher.way(10.0) is Way.WAIT  # the new one loads
    load = wire.decode([theirs.recv(1_000_000)])
    assert isinstance(load, wire.Load)
    assert load.config["model"] == "pack.module:Net"
    played.config = former  # taken back
    assert played.launcher.way(11.0) is Way.FORK
    played.turn(11.0, keeps_former=False)
    assert theirs.recv(16) == b""  # the new one goes
    with pytest.raises(BlockingIOError):
        played.control.recv(16)  # the former one stays
    theirs.close()


def test_a_reload_of_the_same_configuration_has_another_nursery(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    # prevents: weights replaced on disk, a reload that says so, and the old ones in its workers
    played.come_up()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    monkeypatch.setattr(
        "farm.supervisor.launcher.spawn_nursery",
        lambda: Cradle(FakeProcess(101), ours),  # type: ignore[arg-type]
    )
    played.edition = 1
    played.turn(10.0, keeps_former=True)
    assert played.launcher.way(10.0) is Way.WAIT  # the new one loads
    theirs.send(wire.encode(wire.NurseryReady("", "m2", 2.0)))
    played.turn(12.0, keeps_former=True)
    played.launcher.fork(played.slot, 12.0)
    with pytest.raises(BlockingIOError):
        played.control.recv(16)  # not by the former one
    loaded, asked = (wire.decode([theirs.recv(1_000_000)]) for _ in range(2))
    assert (type(loaded), asked) == (wire.Load, wire.Fork("3"))
    played.edition = 0  # taken back
    assert played.launcher.way(12.0) is Way.FORK
    played.turn(13.0)
    assert theirs.recv(16) == b""
    theirs.close()


def test_what_was_begun_early_for_another_configuration_is_not_used(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    # prevents: a farm that answers with a model which its configuration does not name
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    monkeypatch.setattr(
        "farm.supervisor.launcher.spawn_nursery",
        lambda: Cradle(FakeProcess(101), ours),  # type: ignore[arg-type]
    )
    played.config = Config.model_validate({"model": "pack.module:Net"})
    played.turn(0.0)
    load = wire.decode([theirs.recv(1_000_000)])
    assert isinstance(load, wire.Load)
    assert load.config["model"] == "pack.module:Net"
    assert played.children.taken == [NURSERY_PID, 101]
    played.request()  # it was told
    assert played.control.recv(16) == b""  # and let go
    theirs.close()


def test_an_early_nursery_that_ends_before_the_first_turn_is_not_taken_over_as_alive(
    played: Played,
) -> None:
    # prevents: workers that wait a minute for a process that is gone, and a loop that spins
    assert played.children.taken == [NURSERY_PID]  # before anything is reaped
    played.control.close()
    assert played.launcher.ended(NURSERY_PID, -signal.SIGKILL, 0.0, is_out_of_memory=False)
    played.launcher.keep_nursery(0.0, is_needed=True, keeps_former=False)
    assert played.launcher.descriptors() == []
    assert played.launcher.way(0.0) is Way.EXEC  # until the next one, after a back-off
    assert played.children.told == []


def test_a_socket_at_its_end_is_polled_no_more(played: Played) -> None:
    # prevents: a loop that spins until the process of the nursery was waited for
    played.come_up()
    assert len(played.launcher.descriptors()) == 1
    played.control.close()
    played.turn(4.0)
    assert played.launcher.descriptors() == []


def test_a_reload_gives_a_nursery_that_was_unfit_another_chance(played: Played) -> None:
    # prevents: a farm that must be restarted though the cause was mended
    played.come_up(unfit="the model has opened a socket")
    assert played.launcher.way(3.0) is Way.EXEC
    played.launcher.reloaded()
    assert played.launcher.way(3.1) is Way.WAIT


def test_where_the_nursery_stands_is_told(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    # prevents: `farm stats` of a farm whose workers are no forks any more, and no word of it
    assert played.launcher.told(0.0) == {}
    played.turn(1.0)
    told = {"state": "loading", "for_s": 2.0, "made": 1, "way": "wait", "cause": ""}
    assert played.launcher.told(3.0) == told
    played.request()
    played.control.send(wire.encode(wire.NurseryReady("", "m1", 2.0)))
    played.turn(3.0)
    told |= {"state": "ready", "for_s": 7.0, "way": "fork"}
    assert played.launcher.told(10.0) == told
    assert played.launcher.ended(NURSERY_PID, -signal.SIGKILL, 10.0, is_out_of_memory=False)
    told |= {"state": "absent", "for_s": 0.5, "way": "wait", "cause": "killed by SIGKILL"}
    assert played.launcher.told(10.5) == told
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    monkeypatch.setattr(
        "farm.supervisor.launcher.spawn_nursery",
        lambda: Cradle(FakeProcess(101), ours),  # type: ignore[arg-type]
    )
    played.turn(11.0)
    theirs.send(wire.encode(wire.NurseryReady("the model has opened a socket", "m1", 2.0)))
    played.turn(12.0)
    told |= {"state": "unfit", "for_s": 1.0, "made": 2, "way": "exec"}
    assert played.launcher.told(13.0) == told | {"cause": "the model has opened a socket"}
    theirs.close()


def test_a_farm_that_wants_no_nursery_says_so() -> None:
    played = Played(launch="exec")
    played.turn(0.0)
    told = {"state": "off", "for_s": None, "made": 0, "way": "exec", "cause": ""}
    assert played.launcher.told(0.0) == told
    played.control.close()


def test_a_worker_with_a_gpu_is_started_by_itself_and_sees_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker on another GPU after a restart; a fork of a process with CUDA; workers beside it
    that take the GPU as well.
    """
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    children = FakeChildren()
    config = Config.model_validate({"model": "rule", "workers": {"launch": "exec"}})
    launcher = Launcher(
        children,  # type: ignore[arg-type]
        ["--state-dir", "/s"],
        config=lambda: config,
        edition=lambda: 0,
        make_policy=make_policy,
        control_endpoint="ipc:///s/control",
        gpus=Plan({"gpu1": Gpu(1, "GPU-bb22")}, hides=True),
    )
    gpu, plain = Slot("gpu1", make_policy()), Slot("1", make_policy())
    assert launcher.has_gpu(gpu)
    assert not launcher.has_gpu(plain)
    for slot in (gpu, gpu, plain):
        launcher.exec(slot)
    assert children.spawned[0][-2:] == ["--device", "cuda:1"]
    assert "--device" not in children.spawned[2]
    seen = [environment["CUDA_VISIBLE_DEVICES"] for environment in children.environments]
    assert seen == ["GPU-bb22", "GPU-bb22", ""]
