"""The disk of the state directory: its kind, its space, and how fast it makes writes durable.

Writes into a file without a name (open(2), O_TMPFILE, where the file system has it), which is gone
with the last look at it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import statistics
import tempfile
import time
from typing import TYPE_CHECKING, Final

import psutil

from farm.doctor.finding import Finding, fail, ok, warn
from farm.doctor.state import nearest
from farm.journal.store import DIRECTORY_NAME, OLDEST_SQLITE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from farm.config import Config
    from farm.doctor.patient import Patient

WRITTEN_BYTES: Final = (
    8_000_000  # a tenth of a second on a slow disk; a farm beside us won't notice
)
BLOCK: Final = os.urandom(1_000_000)  # a file system that compresses must not look fast
SYNCS: Final = 20
SYNC_BYTES: Final = 4096
# Each commit of `durability: power` waits for one. A disk with a cache that survives a power cut
# takes 0.1 ms, an SSD of a desktop 1 ms, a turning disk 15 ms.
SLOW_SYNC_S: Final = 0.030
SLOW_BYTES_PER_S: Final = 20_000_000  # 100 holes/s of 0.1 MB, twice
REMOTE: Final = ("nfs", "cifs", "smb", "fuse.sshfs", "9p", "ceph", "glusterfs", "lustre")
VOLATILE: Final = ("tmpfs", "ramfs")


def examine(patient: Patient) -> Iterator[Finding]:
    """See the module."""
    place = nearest(patient.state_dir)
    if not os.access(place, os.W_OK | os.X_OK):
        return  # told by the examination of the state
    yield _kind(place)
    if patient.config.journal.durability == "off":
        yield ok("disk.journal", "journal.durability is off: nothing is kept on disk")
        return
    yield _sqlite()
    yield _space(place, patient)
    yield from _speed(place, patient.config)


def _kind(place: Path) -> Finding:
    check = "disk.kind"
    kind = _file_system(place)
    if kind.startswith(REMOTE):
        return warn(
            check,
            f"{place} is on another machine ({kind}): its locks and syncs may not be what they say",
            "put state_dir on a local disk",
        )
    if kind in VOLATILE:
        return warn(
            check,
            f"{place} is in memory ({kind}): a restart of the machine loses the journal",
            "put state_dir on a disk",
        )
    return ok(check, f"{place} is on a local {kind or 'file system of a kind that is not told'}")


def _file_system(place: Path) -> str:
    """The kind of file system that a folder is on; "" where it can't be known."""
    whole = place.resolve()
    mounts = [m for m in psutil.disk_partitions(all=True) if whole.is_relative_to(m.mountpoint)]
    # of two at one place the later one is seen
    nearest_mount = max(reversed(mounts), key=lambda m: len(m.mountpoint), default=None)
    return nearest_mount.fstype if nearest_mount else ""


def _sqlite() -> Finding:
    found, wanted = sqlite3.sqlite_version, ".".join(map(str, OLDEST_SQLITE))
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        return fail(
            "disk.sqlite",
            f"this Python has SQLite {found}, and the journal needs {wanted}",
            "use a newer Python, or set journal.durability to off",
        )
    return ok("disk.sqlite", f"SQLite {found} (the journal needs {wanted})")


def _space(place: Path, patient: Patient) -> Finding:
    check = "disk.space"
    journal = patient.config.journal
    used = _bytes_in(patient.state_dir / DIRECTORY_NAME)
    free = shutil.disk_usage(place).free
    wanted = max(journal.keep_bytes - used, 2 * journal.segment_bytes)
    told = f"{_size(free)} are free, and the journal holds {_size(used)} of journal.keep_bytes"
    cure = f"make room, or set journal.keep_bytes (now {_size(journal.keep_bytes)}) lower"
    if free < 2 * journal.segment_bytes:
        return fail(check, f"{told}: not even room for two segments", cure)
    if free < wanted:
        return warn(check, f"{told}: it may grow by {_size(wanted)} more", cure)
    return ok(check, f"{told} ({_size(journal.keep_bytes)})")


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except OSError:  # a running farm lets go of files
            continue
    return total


def _speed(place: Path, config: Config) -> Iterator[Finding]:
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            descriptor = file.fileno()
            started_s = time.perf_counter()
            for _ in range(WRITTEN_BYTES // len(BLOCK)):
                _write_all(descriptor, BLOCK)
            os.fsync(descriptor)
            rate = WRITTEN_BYTES / (time.perf_counter() - started_s)
            syncs_s = [_sync_once(descriptor) for _ in range(SYNCS)]
    except OSError as error:
        yield fail(
            "disk.writing", f"{place} can't be written: {error.strerror}", "make room, or mend it"
        )
        return
    yield _judged_rate(rate)
    yield _judged_sync(statistics.median(syncs_s), max(syncs_s), config.journal.durability)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_once(descriptor: int) -> float:
    """Seconds that a small write takes until it is on disk."""
    started_s = time.perf_counter()
    _write_all(descriptor, BLOCK[:SYNC_BYTES])
    os.fdatasync(descriptor)
    return time.perf_counter() - started_s


def _judged_rate(bytes_per_s: float) -> Finding:
    told = f"{_size(WRITTEN_BYTES)} were written and synced at {_size(bytes_per_s)}/s"
    if bytes_per_s < SLOW_BYTES_PER_S:
        return warn(
            "disk.writing",
            f"{told}; a busy site writes {_size(SLOW_BYTES_PER_S)}/s",
            "put state_dir on a faster disk, or one with less to do",
        )
    return ok("disk.writing", told)


def _judged_sync(median_s: float, worst_s: float, durability: str) -> Finding:
    told = f"a sync takes {median_s * 1000:.1f} ms (at worst {worst_s * 1000:.1f})"
    if median_s > SLOW_SYNC_S and durability == "power":
        return warn(
            "disk.sync",
            f"{told}, and with durability: power every answer waits for two",
            "put state_dir on an SSD, or set journal.durability to process",
        )
    return ok("disk.sync", told)


def _size(amount: float) -> str:
    """An amount of bytes, in decimal units."""
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
