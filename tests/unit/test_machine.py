"""What is remembered of a machine: measured once, by one process, and again when it is stale."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import select
import signal
import stat
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from structlog.testing import capture_logs

from farm.errors import ModelError
from farm.models import machine
from farm.models.answer import COLUMNS, EXISTS, QUALITY, TORQUE
from farm.models.calibration import CANDIDATES, Trial
from farm.models.depthnet import BUILT_IN, DepthModel
from farm.models.package import INT8, ONNX, Manifest, Package, open_package
from farm.training.trial import compare, measure

TRIALS = tuple(Trial(name, hole_ms={1: ms, 8: ms}) for name, ms in
               (("onnx", 2.0), ("frozen", 3.0), ("int8", 1.0)))  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where it is remembered; no GPU is there, whatever the machine has."""
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(machine, "has_gpu", lambda: False)
    return tmp_path / "farm"


@pytest.fixture
def package():
    return open_package(BUILT_IN)


@pytest.fixture
def tries(monkeypatch):
    """Counts what would be measured, and finds int8 the fastest."""
    asked = []

    def find(_package, names):
        asked.append(names)
        return TRIALS

    monkeypatch.setattr(machine, "_try", find)
    return asked


def kept(folder):
    [path] = folder.glob("runtime-*.json")
    return path


def test_it_is_measured_once_and_remembered(folder, package, tries):
    # Prevents ten workers, and each that is replaced, from measuring for seconds.
    assert machine.runtime_here(package, "auto") == "int8"
    assert machine.runtime_here(package, "cpu") == "int8"
    assert tries == [list(CANDIDATES)]
    assert stat.S_IMODE(kept(folder).stat().st_mode) == 0o600
    assert not list(folder.glob("*.part"))


def test_it_is_measured_anew_when_asked(folder, package, tries):
    # Prevents a `farm models bench --calibrate` that shows what was known already.
    machine.remembered(package)
    _, is_new = machine.remembered(package, anew=True)
    assert is_new
    assert len(tries) == 2


DAMAGES = {
    "empty": lambda _: b"",
    "cut": lambda p: p[: len(p) // 2],
    "no JSON": lambda _: b"\xff\x00",
    "another kind": lambda _: b"[]",
    "a strange field": lambda p: p.replace(b'"problem"', b'"else"'),
    "another machine's": lambda p: p.replace(b'"threads": "1"', b'"threads": "4"'),
    "huge": lambda p: b" " * 200_000 + p,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_file_that_can_not_be_used_is_measured_anew(folder, package, tries, monkeypatch, damage):
    # Prevents a worker that can't start, or runs what was found elsewhere, for a damaged file.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    machine.remembered(package)
    path = kept(folder)
    path.write_bytes(damage(path.read_bytes()))
    assert machine.runtime_here(package, "auto") == "int8"
    assert len(tries) == 2
    assert machine.remembered(package)[1] is False, "the file is whole again"


@pytest.mark.parametrize("change", ["threads", "versions", "weights", "cpu"])
def test_what_it_depends_on_changes_the_key(folder, package, tries, monkeypatch, change):
    # Prevents a choice made for another processor, library or network.
    machine.remembered(package)
    if change == "threads":
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
    elif change == "versions":
        monkeypatch.setattr(machine, "version", lambda _: "99")
    elif change == "cpu":
        monkeypatch.setattr(machine, "_cpu", lambda: "another")
    else:
        told = replace(package.manifest, sha256=package.manifest.sha256 | {ONNX: "0" * 64})
        package = Package(package.folder, told)
    machine.remembered(package)
    assert len(tries) == 2


def _ask(queue):
    def slow(_package, _names):
        queue.put("measured")
        return TRIALS

    machine._try = slow
    queue.put(machine.runtime_here(open_package(BUILT_IN), "cpu"))


def test_ten_that_start_together_measure_once(folder):
    # Prevents ten measurements on two cores, of which each spoils the other's figures.
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=_ask, args=(queue,)) for _ in range(10)]
    for child in children:
        child.start()
    told = [queue.get(timeout=60) for _ in range(11)]
    for child in children:
        child.join(60)
    assert sorted(told) == ["int8"] * 10 + ["measured"]
    assert [c.exitcode for c in children] == [0] * 10


def test_a_trial_that_fails_costs_no_worker(folder, package, monkeypatch):
    # Prevents a farm that does not start since a measurement did not work.
    monkeypatch.setattr(machine, "_TRIAL", "farm.there_is_no_such_module")
    assert machine.runtime_here(package, "cpu") == "frozen"
    findings, is_new = machine.remembered(package)
    assert not is_new, "each of ten workers would try in vain"
    assert "no_such_module" in findings.problem
    assert "no_such_module" in findings.choice.reasons["frozen"]
    monkeypatch.setattr(machine, "_RETRY_S", 0.0)
    assert machine.remembered(package)[1], "it is tried again some day"


def test_without_a_folder_the_safest_is_taken_unmeasured(tmp_path, package, tries, monkeypatch):
    # Prevents ten workers that each measure at every start, or none that starts.
    monkeypatch.setattr(machine, "has_gpu", lambda: False)
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert machine.runtime_here(package, "cpu") == "onnx"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    assert machine.runtime_here(package, "cpu") == "onnx"
    assert not tries


def test_what_can_not_be_written_is_used_all_the_same(folder, package, tries, monkeypatch):
    # Prevents seconds of measuring for nothing on a full disk, and a log that blames the folder.
    def full(_path, _findings):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(machine, "_write", full)
    with capture_logs() as told:
        assert machine.runtime_here(package, "cpu") == "int8"
    assert [line["event"] for line in told] == ["runtime_not_remembered", "runtime_chosen"]
    assert "No space left" in told[0]["cause"]


def _into_link(path):
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


def _into_pipe(path):
    path.unlink()
    os.mkfifo(path)


def _into_unknown(path):
    path.write_text(path.read_text().replace('"int8"', '"warp"'))


@pytest.mark.parametrize("turn", [_into_link, _into_pipe, _into_unknown])
def test_only_a_file_of_ours_with_known_runtimes_is_believed(folder, package, tries, turn):
    # Prevents a worker that hangs on a pipe, or is told by a stranger's file what to run.
    machine.remembered(package)
    turn(kept(folder))
    assert machine.runtime_here(package, "auto") == "int8"
    assert len(tries) == 2


def test_a_file_of_another_user_is_not_believed(folder, package, tries, monkeypatch):
    # Prevents a choice by whoever may write into a shared folder.
    machine.remembered(package)
    monkeypatch.setattr(machine.os, "geteuid", lambda: os.getuid() + 1)
    assert machine.remembered(package)[1]


def test_a_trial_is_told_whose_it_is_and_for_how_long(package, monkeypatch):
    # Prevents a trial that goes on for a worker that was killed.
    asked = []

    def run(command, **_):
        asked.extend(command)
        raise OSError("not now")

    monkeypatch.setattr(machine.subprocess, "run", run)
    with pytest.raises(ModelError, match="not now"):
        machine._try(package, ["onnx"])
    assert asked[4:] == [str(os.getpid()), "46", str(package.folder.absolute()), "onnx"]


def test_a_trial_ends_with_who_started_it():
    # Prevents orphans that keep cores busy with PyTorch after a kill -9.
    code = (
        "import os, signal, sys\n"
        "from farm.training.trial import bind\n"
        "parent = os.getpid()\n"
        "if os.fork() == 0:\n"
        "    bind(parent, 600)\n"
        "    print('bound', flush=True)\n"
        "signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"bound\n"
        starter.kill()
        assert select.select([starter.stdout], [], [], 60)[0], "it lives"
        assert starter.stdout.read() == b""


@pytest.mark.parametrize(
    ("parent", "status"),
    [("os.getppid()", -signal.SIGALRM), ("1", 1)],
    ids=["it takes too long", "its parent is gone already"],
)
def test_a_trial_ends_by_itself(parent, status):
    # Prevents a trial that hangs for ever where nobody waits for it any more.
    code = (
        "import os, signal\n"
        "from farm.training.trial import bind\n"
        f"bind({parent}, 1)\n"
        "signal.pause()"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode == status


def test_systemds_folder_comes_first(folder, tmp_path, package, tries, monkeypatch):
    # Prevents a service without a home from never remembering anything.
    monkeypatch.setenv("CACHE_DIRECTORY", f"{tmp_path / 'given'}:/elsewhere")
    machine.remembered(package)
    assert kept(tmp_path / "given")


def test_a_gpu_is_not_measured(folder, package, tries, monkeypatch):
    # Prevents a GPU that idles since int8 was faster than one core.
    monkeypatch.setattr(machine, "has_gpu", lambda: True)
    assert machine.runtime_here(package, "auto") == "frozen"
    assert machine.runtime_here(package, "cuda") == "frozen"
    assert not tries
    assert machine.runtime_here(package, "cpu") == "int8"


def test_only_what_is_there_is_tried(package, monkeypatch):
    # Prevents a trial of what can't be had, and a process of seconds to choose from one.
    told = Manifest("x", {}, dict.fromkeys(("weights.safetensors", INT8), "0" * 64))
    assert machine.candidates(Package(package.folder, told)) == ["frozen", "int8"]
    monkeypatch.setattr(machine, "has_onnxruntime", lambda: False)
    assert machine.candidates(package) == ["frozen"]
    monkeypatch.setattr(machine, "remembered", None)
    assert machine.runtime_here(package, "cpu") == "frozen"


def test_the_answers_of_a_runtime_are_compared_where_there_is_something():
    # Prevents a runtime that is refused for a transition where there is none.
    expected = np.zeros((2, COLUMNS), np.float32)
    expected[:, EXISTS] = [1, 0, 1]
    found = expected.copy()
    found[0, TORQUE] += [0.01, 5.0, 0.02]
    found[1, QUALITY] += 0.25
    told = compare("int8", found, expected, hole_ms={1: 1.0})
    assert told.off_mm == pytest.approx(0.02)
    assert told.mean_off_mm == pytest.approx(0.03 / 8)
    assert told.quality_off == pytest.approx(0.25)
    assert (told.flips, told.is_finite) == (0, True)
    found[1, EXISTS] = [1, 1, 1]
    assert compare("int8", found, expected, hole_ms={}).flips == 1
    found[1, TORQUE] = np.nan
    broken = compare("int8", found, expected, hole_ms={})
    assert not broken.is_finite


@pytest.mark.usefixtures("one_thread")
def test_the_shipped_runtimes_are_safe_here(package):
    # Prevents a default that is refused on every machine, and one that is broken.
    found = {trial.name: trial for trial in measure(package, CANDIDATES)}
    assert list(found) == list(CANDIDATES)
    assert found["frozen"].off_mm == 0
    # How far int8 is off depends on the processor's instructions; that is what trials are for.
    assert all(trial.is_finite and not trial.reason for trial in found.values())
    assert found["onnx"].off_mm < 1e-3
    assert all(ms > 0 for trial in found.values() for ms in trial.hole_ms.values())


def test_the_default_is_what_was_found(folder, package, tries):
    # Prevents a ModelHash of another file than the one that answers.
    model = DepthModel({})
    assert model.runtime == "int8"
    assert model.content_hash == package.short_hash(INT8)
    pinned = DepthModel({"runtime": "onnx"})
    assert pinned.content_hash == package.short_hash(ONNX)
    assert len(tries) == 1


def test_what_is_remembered_needs_no_torch(folder, package, tries):
    # Prevents ten workers with PyTorch in memory that none of them uses; and a library that
    # reports home, with a thread that makes forking unsafe.
    machine.remembered(package)
    code = (
        "import os, sys; sys.modules['torch'] = None\n"
        "from farm.models.depthnet import DepthModel\n"
        "model = DepthModel({'device': 'cpu'})\n"
        "model.warm_up()\n"
        "print(model.runtime, len(os.listdir('/proc/self/task')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["int8", "1"]


def test_it_is_told_in_words(folder, package, tries):
    # Prevents a log line from which nobody can tell why.
    findings, _ = machine.remembered(package)
    assert machine.told(findings)["frozen"] == (
        "3.00 ms at 1, 3.00 ms at 8: slower than int8: 200% more time"
    )
    assert json.loads(json.dumps(machine.as_json(findings)))["runtime"] == "int8"
