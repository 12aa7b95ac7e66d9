"""The carry-over: parts that wait for their partners while the farm is stopped and started again.

They were acknowledged, so MQTT won't bring them again, and their partners may come to the next life
of the farm. Owns one file in the state directory, written at a drain and taken at the next start.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgpack  # type: ignore[import-untyped] # ships none

from farm.broker.buffer import Part

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FILE_NAME = "carryover.msgpack"
FORMAT = 1


def save(path: Path, parts: Sequence[Part]) -> None:
    """Write the parts, whole or not at all; with none, no file is left.

    Raises:
        OSError: the disk is full, or the like; what was there before stays.
    """
    if not parts:
        path.unlink(missing_ok=True)
        return
    rows = [[part.kind, part.source, part.part_id, part.payload] for part in parts]
    new = path.with_suffix(".new")
    try:
        with new.open("wb") as file:
            file.write(msgpack.packb([FORMAT, rows]))
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def take(path: Path) -> list[Part]:
    """The parts that were saved, once: the file is gone afterwards. Empty without a file.

    Raises:
        ValueError: the file is damaged or of another version; it is kept beside as `.bad`.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return []
    try:
        parts = _unpack(raw)
    except (ValueError, TypeError) as error:
        path.replace(path.with_suffix(".bad"))
        raise ValueError(f"{error}; kept as {path.stem}.bad") from error
    path.unlink()
    return parts


def _unpack(raw: bytes) -> list[Part]:
    version, rows = msgpack.unpackb(raw)
    if version != FORMAT:
        raise ValueError(f"format {version!r} where {FORMAT} is known")
    # their time window begins anew, when the intake opens: on its clock that is 0
    return [Part(str(k), str(s), i, bytes(payload), 0.0) for k, s, i, payload in rows]
