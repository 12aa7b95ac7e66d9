"""Segment files: the raw bytes of messages, appended one after the other, never changed.

A database would write each payload twice, and give its pages back at a price. A segment is written
once and removed as a whole. Which message lies where, and its checksum, is in the database.
"""

from __future__ import annotations

import contextlib
import errno
import os
import zlib
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, NamedTuple

from farm.errors import JournalBusyError, JournalError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SUFFIX = ".seg"
MAX_BUFFERS = 512  # of one writev; the kernel takes 1024
MAX_OPEN_FILES = 16  # kept open for reading
MAX_FULL_SEGMENTS = 8  # that wait for a slow disk; further ones are left to the kernel
_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class Place(NamedTuple):
    """Where the bytes of a message lie, and what they must be."""

    segment: int
    position: int
    length: int
    crc: int


class FullSegments:
    """Segments that are complete, until their pages are given back to the kernel.

    Hardly anybody reads a payload again. Left alone, the page cache grows by all that was written,
    and every new page is one that the machine has not used yet: in a virtual machine whose host
    takes back free memory (free page reporting) that costs twelve times as much as the copy.
    With the pages of what is on disk given back, the same few hundred megabytes are used again.

    `add` is for the thread that writes, `settle` for another one, which may wait for the disk.
    """

    def __init__(self) -> None:
        self._descriptors: deque[int] = deque()

    def add(self, descriptor: int) -> None:
        """A segment is full; its descriptor is no longer the caller's."""
        if len(self._descriptors) >= MAX_FULL_SEGMENTS:
            os.close(descriptor)
        else:
            self._descriptors.append(descriptor)

    def settle(self) -> None:
        """Write each to the disk, and give its pages back.

        Raises:
            OSError: the disk fails, and may have lost some of one that was not synced before.
        """
        while (descriptor := self._next()) is not None:
            try:
                os.fdatasync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)

    def close(self) -> None:
        """Give the descriptors back; the kernel does the rest in its time."""
        while (descriptor := self._next()) is not None:
            os.close(descriptor)

    def _next(self) -> int | None:
        try:
            return self._descriptors.popleft()
        except IndexError:
            return None


class SegmentWriter:
    """Appends to the newest segment. For one thread.

    Args:
        directory: of the segments; made if it is missing.
        segment_bytes: size from which on a new segment is begun.
        is_synced: whether what is appended must survive a power cut.

    Attributes:
        full: segments that were completed.
    """

    def __init__(self, directory: Path, *, segment_bytes: int, is_synced: bool) -> None:
        self.full = FullSegments()
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._is_synced = is_synced
        directory.mkdir(mode=0o700, exist_ok=True)
        self._number = max(numbers(directory), default=0)
        self._descriptor = -1
        self._length = 0  # of the file up to what is committed
        self._written = 0  # beyond that

    @property
    def number(self) -> int:
        """The segment that is being written."""
        return self._number

    def append(self, payloads: Sequence[bytes]) -> list[tuple[int, int]]:
        """Write payloads; returns (segment, position) of each. `commit` or `roll_back` must follow.

        Raises:
            OSError: the disk is full or fails; nothing of it counts after `roll_back`.
        """
        if not payloads:
            return []
        self._make_room()
        places = []
        position = self._length
        for payload in payloads:
            places.append((self._number, position))
            position += len(payload)
        for start in range(0, len(payloads), MAX_BUFFERS):
            self._write(payloads[start : start + MAX_BUFFERS])
        if self._is_synced:
            self._sync()
        return places

    def commit(self) -> None:
        """What was appended counts."""
        self._length += self._written
        self._written = 0

    def roll_back(self) -> None:
        """What was appended since the last `commit` never was."""
        self._written = 0
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):  # what is beyond the length is written over anyway
                os.ftruncate(self._descriptor, self._length)

    def close(self) -> None:
        """End the current segment."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self.full.close()

    def _make_room(self) -> None:
        if self._descriptor >= 0 and self._length < self._segment_bytes:
            return
        # never goes on in a file of a former life, whose end nobody vouches for
        number = self._number + 1
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path_of(self._directory, number), flags, 0o600)
        if self._descriptor >= 0:
            self.full.add(self._descriptor)
        self._descriptor, self._number, self._length = descriptor, number, 0
        if self._is_synced:
            self._sync_name()

    def _write(self, payloads: Sequence[bytes]) -> None:
        wanted = sum(map(len, payloads))
        position = self._length + self._written
        written = os.pwritev(self._descriptor, payloads, position)
        if written != wanted:  # a full disk takes a part and says nothing
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._written += written

    def _sync(self) -> None:
        try:
            os.fdatasync(self._descriptor)
        except OSError:
            # After a failed sync the kernel may drop the pages and call the next one a success.
            # So this file is not written to again: the batch goes into a new one.
            self.roll_back()
            self.close()
            raise

    def _sync_name(self) -> None:
        """Make the new file's name survive, too."""
        try:
            _sync_directory(self._directory)
        except OSError:
            self.close()  # bytes in a file that may not be found again are not safe
            raise


class SegmentReader:
    """Reads payloads back. For one thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._open: OrderedDict[int, int] = OrderedDict()

    def read(self, place: Place) -> bytes:
        """The bytes at a place.

        Raises:
            JournalError: they are gone or damaged.
            JournalBusyError: they can't be read now.
        """
        try:
            payload = os.pread(self._file(place.segment), place.length, place.position)
        except OSError as error:
            if error.errno in _PASSING:
                raise JournalBusyError(f"no segment can be read: {error.strerror}") from error
            raise JournalError(
                f"segment {place.segment} can't be read: {error.strerror}"
            ) from error
        if len(payload) != place.length or zlib.crc32(payload) != place.crc:
            raise JournalError(
                f"segment {place.segment} is damaged at {place.position} ({place.length} bytes)"
            )
        return payload

    def let_go(self) -> None:
        """Close the files that were removed meanwhile: until then they take room on the disk."""
        for number, descriptor in list(self._open.items()):
            if os.fstat(descriptor).st_nlink == 0:
                os.close(self._open.pop(number))

    def close(self) -> None:
        """Give the descriptors back."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _file(self, number: int) -> int:
        descriptor = self._open.get(number)
        if descriptor is None:
            path = path_of(self._directory, number)
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._open[number] = descriptor
            if len(self._open) > MAX_OPEN_FILES:
                os.close(self._open.popitem(last=False)[1])
        self._open.move_to_end(number)
        return descriptor


def path_of(directory: Path, number: int) -> Path:
    """The file of a segment."""
    return directory / f"{number:08d}{SUFFIX}"


def numbers(directory: Path) -> list[int]:
    """The segments that are there, oldest first."""
    names = (path.stem for path in directory.glob(f"*{SUFFIX}"))
    return sorted(int(name) for name in names if name.isdecimal())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
