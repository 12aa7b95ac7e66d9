"""The `RecordingReader`: the records of a recording, in the order in which they were written.

Reads beside a writer. Any file at all gives records, or a `RecordingError` that says where it ends
to be one.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from farm.errors import RecordingError
from farm.recording.block import Torn, content, walk
from farm.recording.header import MAGIC, read_header
from farm.recording.record import Unknown, unpack_records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from farm.recording.header import Header
    from farm.recording.record import Gap, Message, Note


class RecordingReader:
    """See the module; a context manager.

    Args:
        path: of the file.
        is_patient: end at damage, and tell it in `damage`, instead of raising.

    Attributes:
        header: how it began.
        size: of the file when it was opened, in bytes.
        torn: what is torn at its end, once all was read.
        damage: where and why reading ended too early; "" where it did not.
        unknown: records of kinds that this farm does not know, so far.
        raw_bytes: what was read so far, before it was compressed.

    Raises:
        RecordingError: it can't be opened, or is no recording.
    """

    def __init__(self, path: Path, *, is_patient: bool = False) -> None:
        self.path = path
        self._is_patient = is_patient
        self.torn: Torn | None = None
        self.damage = ""
        self.unknown = 0
        self.raw_bytes = 0
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise RecordingError(f"{path} can't be read: {error.strerror}") from error
        try:
            with self._told():
                self.header: Header = read_header(self._file, str(path))
            self._begin = self._file.tell()
            self.size = os.fstat(self._file.fileno()).st_size
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def records(self) -> Iterator[Message | Gap | Note]:
        """All records, from the begin on.

        Raises:
            RecordingError: the file is damaged.
        """
        self.torn, self.damage, self.unknown, self.raw_bytes = None, "", 0, 0
        try:
            with self._told():
                self._file.seek(self._begin)
            yield from self._read()
        except RecordingError as error:
            if not self._is_patient:
                raise RecordingError(
                    f"{error}. `farm record NEW --from {self.path}` keeps what stands before it"
                ) from None
            self.damage = str(error)

    def _read(self) -> Iterator[Message | Gap | Note]:
        blocks = walk(self._file, self.size)
        while True:
            with self._told():
                block = next(blocks, None)
                if block is None:
                    return
                if isinstance(block, Torn):
                    self.torn = block
                    return
                raw = content(block)
            self.raw_bytes += len(raw)
            records = unpack_records(raw, block.records)
            while True:
                with self._told(f"damaged in the block at byte {block.offset}: "):
                    record = next(records, None)
                if record is None:
                    break
                if isinstance(record, Unknown):
                    self.unknown += 1
                else:
                    yield record

    @contextmanager
    def _told(self, before: str = "") -> Iterator[None]:
        """Errors name the file."""
        try:
            yield
        except RecordingError as error:
            told = str(error)
            named = told if told.startswith(str(self.path)) else f"{self.path}: {before}{told}"
            raise RecordingError(named) from error
        except OSError as error:
            raise RecordingError(f"{self.path} can't be read: {error.strerror}") from error


def is_recording(path: Path) -> bool:
    """Whether a file begins as a recording does.

    Raises:
        RecordingError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise RecordingError(f"{path} can't be read: {error.strerror}") from error
