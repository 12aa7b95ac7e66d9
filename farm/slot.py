"""The slot: the black box of one worker incarnation: a small file that outlives its process.

It names the jobs that are being computed right now. The worker keeps it in a file that it maps into
its memory, so a mark costs about a microsecond and is there however the process ends; the broker
reads it afterwards and knows whom to blame. Owns the bytes; the folder is the broker's.

The layout, little-endian, 152 bytes for a worker that computes up to 16 jobs at once::

     0  4s  magic        the version is part of it
     4  H   room         how many jobs it can name
     6  B   state        0: idle, 1: computing
     7  x
     8  Q   worker id    of this incarnation
    16  I   checksum     CRC-32 of worker id, count and the ids that count
    20  I   count
    24  …Q  job ids      as many as there is room for; those beyond the count mean nothing

Nobody holds a lock, so the order of writing is what keeps it right. The state is idle while the
rest changes, and is set last: it is one byte, so it can't be torn. Whoever dies before it has begun
nothing, and whoever reads in the middle of a change finds it idle, or a wrong checksum.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import zlib
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_JOBS = 16  # of one message to a worker, and of one batch of a worker without a GPU
MAX_GATHERED_JOBS = 1024  # of one batch of a worker that gathers messages: one with a GPU

_MAGIC = b"fsl3"
_HEAD = struct.Struct("<4sHBxQII")
_STATE_AT = 6
_CHECK_AT = 16
_IDS_AT = _HEAD.size
_CHECK = struct.Struct("<II")
_SEED = struct.Struct("<QQ")  # worker id and count, as the checksum has them
_IDS = tuple(struct.Struct(f"<{count}Q") for count in range(MAX_JOBS + 1))
_ID_BYTES = 8
_IDLE, _COMPUTING = 0, 1
# A living worker may be changing it; the next look comes microseconds later.
_READ_TRIES = 5


class Slot:
    """The worker's side. One thread marks at a time: first the reader, then the compute loop.

    Make it with `create`.
    """

    def __init__(self, path: Path, worker_id: int, mapped: mmap.mmap, room: int) -> None:
        self.path = path
        self._map = mapped
        self._room = room
        self._seeds = [_seed(worker_id, count) for count in range(room + 1)]

    @classmethod
    def create(cls, path: Path, worker_id: int, *, room: int = MAX_JOBS) -> Self:
        """An idle slot, in a new file that only this user may read.

        Args:
            path: of the file.
            worker_id: of this incarnation.
            room: how many jobs it can name.

        Raises:
            OSError: the file can't be made.
            ValueError: no worker computes so many jobs at once.
        """
        if not 0 < room <= MAX_GATHERED_JOBS:
            raise ValueError(f"a slot has room for 1 to {MAX_GATHERED_JOBS} jobs, not {room}")
        with contextlib.suppress(FileNotFoundError):
            path.unlink()  # never truncate: who still has it mapped would die of it
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            # Written, not truncated to size: the disk's block is there then, and a full disk is an
            # error here instead of a signal at the first mark.
            empty = _HEAD.pack(_MAGIC, room, _IDLE, worker_id, 0, 0) + bytes(_ID_BYTES * room)
            os.write(descriptor, empty)
            mapped = mmap.mmap(descriptor, len(empty))
        finally:
            os.close(descriptor)
        return cls(path, worker_id, mapped, room)

    def computing(self, job_ids: Sequence[int]) -> None:
        """These jobs are begun now.

        Raises:
            ValueError: none, too many, or ids that are none.
        """
        count = len(job_ids)
        if not 0 < count <= self._room:
            raise ValueError(f"a slot names 1 to {self._room} jobs, not {count}")
        try:
            ids = _packed(job_ids)
        except struct.error as error:
            raise ValueError(f"no job ids: {job_ids}") from error
        mapped = self._map
        mapped[_STATE_AT] = _IDLE
        told = _CHECK.pack(zlib.crc32(ids, self._seeds[count]), count) + ids
        mapped[_CHECK_AT : _CHECK_AT + len(told)] = told
        mapped[_STATE_AT] = _COMPUTING

    def idle(self) -> None:
        """The results are there: whatever happens from now on, no job is to blame."""
        self._map[_STATE_AT] = _IDLE

    def close(self) -> None:
        """Give the memory back; the file stays."""
        self._map.close()

    def remove(self) -> None:
        """Remove the file: nobody will ask for this incarnation any more."""
        self.path.unlink(missing_ok=True)


def read_slot(path: Path, worker_id: int) -> frozenset[int] | None:
    """The jobs that a worker computes, or computed when it died.

    Returns:
        Their ids; None where that can't be known: the file is missing, damaged, or of another
        incarnation.
    """
    for _ in range(_READ_TRIES):
        try:
            data = path.read_bytes()
        except OSError:
            return None
        job_ids = _parse(data, worker_id)
        if job_ids is not None:
            return job_ids
    return None


def _parse(data: bytes, worker_id: int) -> frozenset[int] | None:
    if len(data) < _HEAD.size:
        return None
    magic, room, state, owner, checksum, count = _HEAD.unpack_from(data)
    is_whole = magic == _MAGIC and len(data) == _IDS_AT + _ID_BYTES * room
    if not is_whole or owner != worker_id or state not in (_IDLE, _COMPUTING):
        return None
    if state == _IDLE:
        return frozenset()
    if not 0 < count <= room:
        return None
    ids = data[_IDS_AT : _IDS_AT + _ID_BYTES * count]
    if checksum != zlib.crc32(ids, _seed(worker_id, count)):
        return None
    return frozenset(struct.unpack(f"<{count}Q", ids))


def _packed(job_ids: Sequence[int]) -> bytes:
    count = len(job_ids)
    return _IDS[count].pack(*job_ids) if count <= MAX_JOBS else struct.pack(f"<{count}Q", *job_ids)


def _seed(worker_id: int, count: int) -> int:
    return zlib.crc32(_SEED.pack(worker_id, count))
