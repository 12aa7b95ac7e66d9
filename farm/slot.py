"""The slot: the black box of one worker incarnation: 152 bytes that outlive its process.

It names the jobs that are being computed right now. The worker keeps it in a file that it maps into
its memory, so a mark costs about a microsecond and is there however the process ends; the broker
reads it afterwards and knows whom to blame. Owns the bytes; the folder is the broker's.

The layout, little-endian::

     0  4s  magic        the version is part of it
     4  I   checksum     CRC-32 of worker id, count and the ids that count
     8  Q   worker id    of this incarnation
    16  B   count        0: idle
    17  7x
    24  16Q job ids      those beyond the count mean nothing

Nobody holds a lock, so the order of writing is what keeps it right. From idle the ids come first,
then the checksum, and the count last: it is one byte, so it can't be torn. Whoever dies before it
has begun nothing, and whoever reads in the middle of a change finds a wrong checksum.
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

MAX_JOBS = 16  # of one batch

_MAGIC = b"fsl2"
_LAYOUT = struct.Struct(f"<4sIQB7x{MAX_JOBS}Q")
_CHECK_AT = 4
_COUNT_AT = 16
_IDS_AT = 24
_CHECK = struct.Struct("<I")
_SEED = struct.Struct("<QQ")  # worker id and count, as the checksum has them
_IDS = tuple(struct.Struct(f"<{count}Q") for count in range(MAX_JOBS + 1))
# A living worker may be changing it; the next look comes microseconds later.
_READ_TRIES = 5


class Slot:
    """The worker's side. One thread marks at a time: first the reader, then the compute loop.

    Make it with `create`.
    """

    def __init__(self, path: Path, worker_id: int, mapped: mmap.mmap) -> None:
        self.path = path
        self._map = mapped
        self._seeds = [_seed(worker_id, count) for count in range(MAX_JOBS + 1)]

    @classmethod
    def create(cls, path: Path, worker_id: int) -> Self:
        """An idle slot, in a new file that only this user may read.

        Raises:
            OSError: the file can't be made.
        """
        with contextlib.suppress(FileNotFoundError):
            path.unlink()  # never truncate: who still has it mapped would die of it
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            # Written, not truncated to size: the disk's block is there then, and a full disk is an
            # error here instead of a signal at the first mark.
            os.write(descriptor, _LAYOUT.pack(_MAGIC, 0, worker_id, 0, *[0] * MAX_JOBS))
            mapped = mmap.mmap(descriptor, _LAYOUT.size)
        finally:
            os.close(descriptor)
        return cls(path, worker_id, mapped)

    def computing(self, job_ids: Sequence[int]) -> None:
        """These jobs are begun now.

        Raises:
            ValueError: none, too many, or ids that are none.
        """
        count = len(job_ids)
        if not 0 < count <= MAX_JOBS:
            raise ValueError(f"a slot names 1 to {MAX_JOBS} jobs, not {count}")
        try:
            ids = _IDS[count].pack(*job_ids)
        except struct.error as error:
            raise ValueError(f"no job ids: {job_ids}") from error
        mapped = self._map
        mapped[_COUNT_AT] = 0
        mapped[_IDS_AT : _IDS_AT + len(ids)] = ids
        check = _CHECK.pack(zlib.crc32(ids, self._seeds[count]))
        mapped[_CHECK_AT : _CHECK_AT + _CHECK.size] = check
        mapped[_COUNT_AT] = count

    def idle(self) -> None:
        """The results are there: whatever happens from now on, no job is to blame."""
        self._map[_COUNT_AT] = 0

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
    if len(data) != _LAYOUT.size:
        return None
    magic, checksum, owner, count, *job_ids = _LAYOUT.unpack(data)
    if magic != _MAGIC or owner != worker_id or count > MAX_JOBS:
        return None
    if not count:
        return frozenset()
    ids = data[_IDS_AT : _IDS_AT + _IDS[count].size]
    if checksum != zlib.crc32(ids, _seed(worker_id, count)):
        return None
    return frozenset(job_ids[:count])


def _seed(worker_id: int, count: int) -> int:
    return zlib.crc32(_SEED.pack(worker_id, count))
