"""The `RecordingWriter`: appends records to a recording, and never changes what is there.

What was appended is in the file once `flush` has returned: kill -9 loses what came after the last
flush, and nothing before it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import TYPE_CHECKING, Self

from farm import __version__
from farm.errors import RecordingError
from farm.recording.block import LEVEL, MAX_RECORDS, TARGET_BYTES, Torn, pack_block, walk
from farm.recording.header import Header, pack_header, read_header
from farm.recording.record import Message, pack_record

if TYPE_CHECKING:
    from pathlib import Path

    from farm.recording.record import Gap, Note

_PRIVATE = 0o600  # traces are confidential
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class RecordingWriter:
    """See the module; a context manager. For one thread, and one at a time for each file.

    Args:
        path: a new file, or a recording to go on with.
        now_ns: UTC, for the header of a new one.
        is_anonymous: whether what is appended has made-up names.
        level: of the compression; 0 for none.
        can_go_on: the same command goes on where this one ended, and does not begin anew.
        removes_empty: a file that is made here goes again if no message comes into it.

    Attributes:
        level: of the compression of the next block; may be changed at any time.
        is_new: the file was made.
        torn: what was torn at the end of an older one, and was cut off.
        records: that are in the file, of this writer.
        size: of the file, in bytes.
        raw_bytes: what this writer has put into it, before it was compressed.
        has_content: a message was appended.

    Raises:
        RecordingError: it can't be written, is no recording, is damaged or not alike, or another
            recorder writes it.
    """

    def __init__(
        self,
        path: Path,
        *,
        now_ns: int,
        is_anonymous: bool = False,
        level: int = LEVEL,
        can_go_on: bool = True,
        removes_empty: bool = False,
    ) -> None:
        self.path = path
        self.torn: Torn | None = None
        self.records = 0
        self.raw_bytes = 0
        self.has_content = False
        self.level = level
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._can_go_on = can_go_on
        self._is_made, self._removes_empty = False, removes_empty
        try:
            self._descriptor, is_made = _open(path)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._hold()
            self._is_made = is_made  # and nobody else's by now
            self.size = os.fstat(self._descriptor).st_size
            self.is_new = not self.size
            header = Header(now_ns, f"farm {__version__}", is_anonymous)
            if self.is_new:
                os.fchmod(self._descriptor, _PRIVATE)  # it may have been there, empty
                self._write(pack_header(header))
            else:
                self._go_on(is_anonymous=is_anonymous)
        except BaseException as error:
            self._remove_empty()
            os.close(self._descriptor)
            if isinstance(error, OSError):
                raise self._unwritable(error) from error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, record: Message | Gap | Note) -> None:
        """Take in a record; it is in the file after the next `flush`, or once a block is full.

        Raises:
            UnfitError: it is too large to be kept; nothing else is lost.
            RecordingError: the disk is full or fails.
        """
        packed = pack_record(record)
        self.has_content |= isinstance(record, Message)
        self._waiting.append(packed)
        self._waiting_bytes += len(packed)
        if self._waiting_bytes >= TARGET_BYTES or len(self._waiting) >= MAX_RECORDS:
            self.flush()

    def flush(self) -> None:
        """Have all in the file that was appended; a kill loses none of it, a power cut may.

        Raises:
            RecordingError: the disk is full or fails; what was in the file before stays there.
        """
        if not self._waiting:
            return
        self._write(pack_block(self._waiting, level=self.level))
        self.records += len(self._waiting)
        self.raw_bytes += self._waiting_bytes
        self._waiting, self._waiting_bytes = [], 0

    def close(self) -> None:
        """Have all on the disk, and give the file back. Doing it twice does no harm.

        Raises:
            RecordingError: the disk is full or fails.
        """
        if self._descriptor < 0:
            return
        try:
            self.flush()
            self._remove_empty()
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise self._failed(error) from error
        finally:
            os.close(self._descriptor)
            self._descriptor = -1

    def _hold(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # its recorder may have removed it since it was opened
            if not os.path.samestat(os.fstat(self._descriptor), self.path.stat()):
                raise BlockingIOError  # noqa: TRY301
        except (BlockingIOError, FileNotFoundError):
            raise RecordingError(
                f"another recorder writes {self.path}: stop it, or record into another file"
            ) from None
        except OSError as error:
            raise RecordingError(
                f"{self.path} can't be locked ({error.strerror}): record on a local disk"
            ) from error

    def _go_on(self, *, is_anonymous: bool) -> None:
        """Find the end of what is whole in an older recording, and cut off what is not."""
        with os.fdopen(os.dup(self._descriptor), "rb") as file:
            file.seek(0)
            header = read_header(file, str(self.path))
            if header.is_anonymous != is_anonymous:
                said = "is anonymous" if header.is_anonymous else "is not anonymous"
                raise RecordingError(
                    f"{self.path} {said}, and what is to be added would not be alike: record into "
                    "another file"
                )
            try:
                for block in walk(file, self.size):
                    if isinstance(block, Torn):
                        self.torn = block
            except RecordingError as error:
                raise RecordingError(
                    f"{self.path}: {error}. Nothing is added to a damaged recording: record into "
                    "another file"
                ) from error
        if self.torn is not None:
            os.ftruncate(self._descriptor, self.torn.offset)
            self.size = self.torn.offset

    def _write(self, data: bytes) -> None:
        view, at = memoryview(data), self.size
        try:
            while view:
                written = os.pwrite(self._descriptor, view, at)
                view, at = view[written:], at + written
        except OSError as error:
            with contextlib.suppress(OSError):  # a torn end is cut when it is read, too
                os.ftruncate(self._descriptor, self.size)
            # what could not be written is given up: `close` must not try it again
            self._waiting, self._waiting_bytes = [], 0
            raise self._failed(error) from error
        self.size = at

    def _remove_empty(self) -> None:
        if self._removes_empty and self._is_made and not self.has_content:
            with contextlib.suppress(OSError):  # it does no harm
                self.path.unlink()

    def _unwritable(self, error: OSError) -> RecordingError:
        return RecordingError(
            f"{self.path} can't be written: {error.strerror}: choose another place"
        )

    def _failed(self, error: OSError) -> RecordingError:
        cure = "make room" if error.errno in _FULL else "look at the disk"
        return RecordingError(
            f"{self.path}: {error.strerror}: {self.records} records of this run are kept in it, "
            f"and it is whole: {cure}, then {self._next_step()}"
        )

    def _next_step(self) -> str:
        if self._can_go_on:
            return "go on with the same command"
        what = "remove it and do it again" if self.is_new else "do it again into another file"
        return f"{what}: the same command would add these records a second time"


def _open(path: Path) -> tuple[int, bool]:
    """The file, and whether it was made."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_EXCL, _PRIVATE), True
    except FileExistsError:
        # O_NOFOLLOW would refuse a link that the user has made on purpose
        return os.open(path, flags, _PRIVATE), False
