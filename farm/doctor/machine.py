"""The machine: its clock, cores, memory and limits, and who we are on it."""

from __future__ import annotations

import ctypes
import os
import resource
import time
from typing import TYPE_CHECKING, Final

import psutil

from farm.cores import cores
from farm.doctor.finding import Finding, fail, ok, warn
from farm.scaler import Bounds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farm.config import Config
    from farm.doctor.patient import Patient

OLDEST_YEAR: Final = 2025  # older than this program: a clock that was never set
LAST_YEAR: Final = 2099
STA_UNSYNC: Final = 0x0040  # adjtimex(2)
LATE_S: Final = 1.0  # of maxerror, from which a clock counts as drifting
# What the broker keeps open: 26 files at rest, and 3 connections of each worker. Rounded up for
# segments of the journal that are read, and for what asks it.
FILES: Final = 100
FILES_PER_WORKER: Final = 6
# Supervisor, broker and nursery take 110 MB at rest, a forked worker 15, one by itself 52, with
# PyTorch in place of ONNX Runtime five times that. Rounded up to it, since a model may bring it in.
FARM_BYTES: Final = 300_000_000
WORKER_BYTES: Final = {"nursery": 30_000_000, "exec": 250_000_000, "ray": 0}  # on other nodes


class _Timex(ctypes.Structure):
    """The head of `struct timex` on 64-bit Linux; what follows is room for the kernel."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


def examine(patient: Patient) -> Iterator[Finding]:
    """See the module."""
    config = patient.config
    bounds = Bounds.of(config, cores=cores())
    yield judge_year(time.gmtime().tm_year)
    yield _synchronised()
    yield judge_cores(cores(), workers=bounds.most, threads=config.workers.threads)
    yield judge_memory(config, workers=bounds.most, available=psutil.virtual_memory().available)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield judge_files(soft, hard, workers=bounds.most)
    yield judge_user(os.geteuid())


def judge_year(year: int) -> Finding:
    """Whether the clock is set at all."""
    if not OLDEST_YEAR <= year <= LAST_YEAR:
        return fail(
            "machine.clock",
            f"the clock says that it is the year {year}",
            "set it: what the journal keeps and how long it stays goes by it",
        )
    return ok("machine.clock", f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC")


def _synchronised() -> Finding:
    check = "machine.synchronised"
    told = _Timex()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(told))  # modes 0: only asks
    except (OSError, AttributeError):
        state = -1
    if state < 0:
        return warn(
            check,
            "the kernel does not say whether the clock is synchronised",
            "see for yourself: `timedatectl`",
        )
    return judge_synchronised(told.status, told.maxerror / 1e6)


def judge_synchronised(status: int, max_error_s: float) -> Finding:
    """Whether something keeps the clock right: `status` and `maxerror` of adjtimex(2)."""
    check = "machine.synchronised"
    if status & STA_UNSYNC:
        return warn(
            check,
            "nothing keeps the clock right: times in stories, logs and answers will drift",
            "run chrony or systemd-timesyncd (in a container: on its host)",
        )
    if max_error_s > LATE_S:
        return warn(
            check,
            f"the clock may be off by {max_error_s:.1f} s: its time server was not heard lately",
            "see `chronyc tracking` or `timedatectl timesync-status`",
        )
    return ok(check, f"the clock is kept right, to {max_error_s * 1000:.0f} ms at worst")


def judge_cores(found: int, *, workers: int, threads: int) -> Finding:
    """Whether the workers have the cores that they would keep busy."""
    check = "machine.cores"
    told = f"{_counted(workers, 'worker')} of {_counted(threads, 'thread')} on "
    told += _counted(found, "core")
    if threads > found:
        return warn(
            check,
            f"{told}: the threads of one worker wait for each other, and each hole takes longer",
            f"set workers.threads to 1, or at most {found}",
        )
    if workers * threads > found:
        carried = max(found // threads, 1)
        return warn(
            check,
            f"{told}: only {carried} compute at once, the others cost memory",
            f"set mqtt.processing.workers to {carried}, or workers.max to let their number follow"
            " the load",
        )
    return ok(check, told)


def judge_memory(config: Config, *, workers: int, available: int) -> Finding:
    """Whether a farm fits into the memory that is free now."""
    check = "machine.memory"
    queued = config.overload.memory_bytes + config.intake.max_queued_bytes
    needed = FARM_BYTES + workers * WORKER_BYTES[config.workers.launch] + queued
    told = (
        f"{available / 1e9:.1f} GB are free; a full farm of {_counted(workers, 'worker')} takes up"
        f" to about {needed / 1e9:.1f}"
    )
    if available < needed:
        return warn(
            check,
            told,
            "fewer workers, workers.launch: nursery, or less intake.max_queued_bytes and"
            " overload.memory_bytes",
        )
    return ok(check, told)


def judge_files(soft: int, hard: int, *, workers: int) -> Finding:
    """Whether one process may open what the broker has open: RLIMIT_NOFILE, -1 for no limit."""
    check = "machine.open_files"
    needed = FILES + FILES_PER_WORKER * workers
    if soft == resource.RLIM_INFINITY:
        return ok(check, "as many as it likes")
    told = f"a process may have {soft} open, and with {_counted(workers, 'worker')} needs {needed}"
    if soft >= needed:
        return ok(check, told)
    can_raise = hard == resource.RLIM_INFINITY or hard >= needed
    how = f"`ulimit -n {needed}`" if can_raise else "have an administrator raise the hard limit"
    return fail(check, told, f"{how}, or LimitNOFILE={needed} in etc/farm.service")


def judge_user(user_id: int) -> Finding:
    """Whether the farm would have more rights than it needs."""
    if user_id == 0:
        return warn(
            "machine.user",
            "we are root: a model or an adapter of your own would be, too",
            "give the farm a user of its own (User= in etc/farm.service)",
        )
    return ok("machine.user", f"we are user {user_id}, not root")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
