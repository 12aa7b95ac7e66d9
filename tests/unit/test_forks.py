"""What a fork is made of: the equipment, the title, the memory, and what forbids a fork."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from farm.config import Config
from farm.config.show import model_view, worker_view
from farm.worker import nursery as nursery_process
from farm.worker.equipment import equip
from farm.worker.thrift import mappings, nursery_environment

if TYPE_CHECKING:
    from pathlib import Path

RULE = {"model": "rule"}


def run_alone(code: str, *arguments: str) -> str:
    """Run it in a process of its own; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_equipment_fits_what_the_broker_tells_however_many_workers_there_are() -> None:
    # prevents: workers that load a model of their own after each `farm scale`
    equipment = equip(Config.model_validate(RULE))
    other = {**RULE, "mqtt": {"processing": {"workers": 7}}}
    assert equipment.fits(Config.model_validate(worker_view(Config.model_validate(other))))
    assert "workers" in worker_view(Config())["mqtt"]["processing"]
    assert "workers" not in model_view(Config())["mqtt"]["processing"]


@pytest.mark.parametrize(
    "other",
    [
        {"workers": {"launch": "exec", "max": 3, "ready_timeout_s": 9.0}},
        {"supervisor": {"drain_timeout_s": 1.0}},
        {"log": {"level": "DEBUG"}},
    ],
)
def test_equipment_fits_however_the_farm_is_run(other: dict[str, object]) -> None:
    # prevents: `--launch nursery` over a file that says exec, and ten models in memory all the same
    equipment = equip(Config.model_validate(RULE))
    assert equipment.fits(Config.model_validate({**RULE, **other}))


@pytest.mark.parametrize(
    "change",
    [{"model_settings": {"a": 1}}, {"workers": {"threads": 2}}, {"limits": {"samples": 7}}],
)
def test_equipment_of_another_configuration_does_not_fit(change: dict[str, object]) -> None:
    # prevents: answers of a model, or an adapter, that the operator has replaced
    equipment = equip(Config.model_validate(RULE))
    assert not equipment.fits(Config.model_validate({**RULE, **change}))


def test_a_title_is_shown_as_a_command_line_and_ends_where_the_former_one_did() -> None:
    # prevents: ten nurseries in `ps`, or a command line that runs on into the environment
    code = """
import psutil, os
from farm.worker.title import set_title
set_title(["farm", "worker", "--name", "3"], "farm worker 3")
print(psutil.Process().name(), "|", " ".join(psutil.Process().cmdline()).strip())
set_title(["x" * 100_000], "farm worker of a long name")
words = psutil.Process().cmdline()
print(psutil.Process().name(), len(words), set(words[0]), os.environ["HOME"])
"""
    first, second = run_alone(code, "a", "few", "arguments").splitlines()
    assert first == "farm worker 3 | farm worker --name 3"
    assert second == f"farm worker of  1 {{'x'}} {os.environ['HOME']}"


@pytest.mark.parametrize(
    ("does", "words"),
    [
        ("pass", ""),
        ("threading.Thread(target=threading.Event().wait, daemon=True).start()", "1 threads"),
        ("kept = socket.socket()", "opened a socket"),
        ("kept = open('/proc/self/maps')", "maps open"),
        ("kept = os.pipe()", "pipe:"),
        ("kept = select.epoll()", "[eventpoll] open"),
        ("kept = open('/dev/urandom', 'rb')", ""),
    ],
)
def test_what_a_fork_would_break_is_found(does: str, words: str) -> None:
    # prevents: forked workers that share a connection, or wait for a thread that is not there
    code = f"""
import os, select, socket, threading
from farm.worker.nursery import descriptors, unfit_because
control, other = socket.socketpair()
other.close()
before = set(descriptors())
{does}
print(unfit_because(control, before))
"""
    told = run_alone(code)
    assert words in told
    assert bool(told) == bool(words)


@pytest.mark.parametrize(
    ("does", "is_fit"),
    [
        ("kept = np.memmap(path, mode='r')", True),
        ("kept = np.memmap(path, mode='c')", True),
        ("kept = np.memmap(path, mode='r'), np.memmap(path, mode='r')", True),
        ("kept = np.memmap(path, mode='r+')", False),  # one worker writes, all read it
        ("kept = np.memmap(path, mode='r'), open(path, 'rb')", False),  # this one has an offset
        ("kept = open(path, 'rb')", False),
        ("kept = np.memmap(path, mode='r'), open('/proc/self/maps')", False),
    ],
)
def test_a_file_that_is_mapped_for_reading_is_fit_for_a_fork(
    tmp_path: Path, does: str, *, is_fit: bool
) -> None:
    # prevents: ten copies in memory of weights that were mapped just to be shared
    path = tmp_path / "weights of a model"
    path.write_bytes(bytes(100_000))
    code = f"""
import socket, sys
from farm.worker.equipment import limit_threads
limit_threads(1)  # as a nursery does: NumPy's own threads are not what this is about
import numpy as np
from farm.worker.nursery import descriptors, unfit_because
control, other = socket.socketpair()
other.close()
before = set(descriptors())
path = sys.argv[1]
{does}
print(unfit_because(control, before))
"""
    told = run_alone(code, str(path))
    assert (not told) == is_fit, told
    assert is_fit or told.endswith(" open")


def test_standard_output_may_be_a_socket() -> None:
    # prevents: a farm under a supervisor that gives it sockets to log to, and never forks
    ours, theirs = socket.socketpair()
    code = """
import socket, sys
from farm.worker.nursery import descriptors, unfit_because
control, other = socket.socketpair()
other.close()
sys.exit(unfit_because(control, set(descriptors())) or 0)
"""
    with ours, theirs:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=theirs, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_nursery_keeps_what_the_operator_has_told_the_c_library() -> None:
    assert nursery_environment({"A": "b"}) == {"A": "b", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    told = nursery_environment({"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"})
    assert told["GLIBC_TUNABLES"] == "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"


def test_an_operator_who_forbids_huge_pages_has_the_say() -> None:
    told = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}
    assert nursery_environment(told) == told


def test_a_worker_does_at_its_end_only_what_it_asked_for_itself() -> None:
    # prevents: a folder of all workers that the first one scaled away removes
    code = """
import atexit, tempfile, weakref
from pathlib import Path
from farm.worker.thrift import forget_exit_hooks, leave
kept = tempfile.TemporaryDirectory()
atexit.register(print, "inherited")
forget_exit_hooks()
atexit.register(lambda: print(Path(kept.name).is_dir(), Path(kept.name).rmdir()))
own = weakref.finalize(leave, print, "own")
leave(0)
"""
    assert run_alone(code).splitlines() == ["own", "True None"]


def test_only_code_that_nobody_has_written_to_is_let_go() -> None:
    # prevents: a crash by code or data that was thrown away and is in no file
    code = """
import ctypes, numpy
from farm.worker.thrift import settle
kept = numpy.arange(1000)
text = "x" * 10_000
settle()
assert kept.sum() == 499_500 and len(set(text)) == 1
assert (numpy.linalg.inv(numpy.eye(3)) == numpy.eye(3)).all()
print("alive")
"""
    assert run_alone(code) == "alive"
    found = list(mappings())
    assert any(m.path == "[heap]" and m.mode == "rw-p" and m.anonymous_kb for m in found)
    assert any(m.mode == "r-xp" and ".so" in m.path for m in found)
    assert all(m.start < m.end for m in found)


def test_a_hint_that_fails_ends_no_nursery(monkeypatch: pytest.MonkeyPatch) -> None:
    # prevents: a nursery that ends, again and again, where /proc does not tell of its memory
    def fail() -> None:
        supervisor.close()  # so that it ends after this
        raise OSError

    supervisor, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monkeypatch.setattr(nursery_process, "settle", fail)
    with control:
        assert nursery_process._serve(control) is None
