"""Records for the tests of the journal, and a crash without the loss of a process."""

from __future__ import annotations

import shutil
import zlib
from typing import TYPE_CHECKING, Any

from farm.adapter import Publication
from farm.journal import records as r
from farm.journal.recovery import Found, recover
from farm.journal.store import DIRECTORY_NAME, Store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SOURCE = "BOX-1/UNIT-1"
VALUE = {"keypoints_mm": [1.5, 6.25, 11.0]}


def message(
    message_id: int,
    payload: bytes | None = None,
    *,
    kind: str = "result",
    source: str = SOURCE,
    part_id: str | None = "7",
    at_s: float = 100.0,
    note: str = "",
) -> r.Message:
    body = f"{kind} {message_id}".encode() if payload is None else payload
    topic = f"OPCPUBSUB/{source}/{kind}"
    return r.Message(message_id, at_s, kind, source, part_id, topic, body, zlib.crc32(body), note)


def opened(
    hole_id: int,
    messages: dict[str, int],
    *,
    source: str = SOURCE,
    part_id: str = "7",
    at_s: float = 101.0,
    retry_of: int | None = None,
) -> r.Opened:
    return r.Opened(
        hole_id, source, part_id, messages, at_s, at_s - 1.0, at_s - 0.5, retry_of=retry_of
    )


def answered(
    hole_id: int,
    *,
    at_s: float = 102.0,
    terminal: str = "published",
    status: str = "ok",
    reason: str = "",
    value: Any = VALUE,
    model_hash: str = "f00d",
    provenance: dict[str, Any] | None = None,
    publications: Sequence[Publication] | None = None,
    story: list[Any] | None = None,
) -> r.Answered:
    default = (Publication("out/keypoints", b"[1]"), Publication("out/depths", b"[2]", retain=True))
    return r.Answered(
        hole_id=hole_id,
        at_s=at_s,
        terminal=terminal,
        status=status,
        reason=reason,
        value=value,
        provenance={"MachineId": "M-1"} if provenance is None else provenance,
        model_version="rule-2",
        model_hash=model_hash,
        publications=default if publications is None else tuple(publications),
        story=story or [],
    )


def failed(hole_id: int, reason: str = "Gave up", **more: Any) -> r.Answered:
    more = {"terminal": "dead", "model_hash": ""} | more
    return answered(hole_id, status="failed", reason=reason, value=None, **more)


def ended(
    hole_id: int, *, at_s: float = 103.0, terminal: str = "published", refusals: str = ""
) -> r.Ended:
    return r.Ended(hole_id, at_s, terminal, refusals)


def rejected(rejection_id: int, message_id: int, at_s: float = 100.0) -> r.Rejected:
    publication = Publication("out/errors", b"no id")
    return r.Rejected(
        rejection_id, message_id, at_s, SOURCE, "result", "no id in it", (publication,)
    )


def whole_hole(
    first_id: int, *, part_id: str = "7", size: int = 10, at_s: float = 100.0, source: str = SOURCE
) -> tuple[int, list[r.Record]]:
    """The id of a hole and its records up to `Opened`: ids first_id (result), +1 (trace), +2."""
    hole_id = first_id + 2
    records: list[r.Record] = [
        message(
            first_id + i, bytes([65 + i]) * size, kind=kind, part_id=part_id, at_s=at_s,
            source=source,
        )
        for i, kind in enumerate(("result", "trace"))
    ]  # fmt: skip
    parts = {"result": first_id, "trace": first_id + 1}
    records.append(opened(hole_id, parts, part_id=part_id, at_s=at_s + 0.1, source=source))
    return hole_id, records


def published_hole(first_id: int, *, at_s: float = 100.0, **more: Any) -> list[r.Record]:
    """All records of a hole that was answered and confirmed."""
    hole_id, records = whole_hole(first_id, at_s=at_s, **more)
    return [*records, answered(hole_id, at_s=at_s + 0.2), ended(hole_id, at_s=at_s + 0.3)]


def dead_hole(
    first_id: int, *, at_s: float = 100.0, terminal: str = "dead", reason: str = "Gave up",
    **more: Any,
) -> list[r.Record]:  # fmt: skip
    """All records of a hole that became a dead letter."""
    hole_id, records = whole_hole(first_id, at_s=at_s, **more)
    return [
        *records,
        failed(hole_id, reason, at_s=at_s + 0.2, terminal=terminal),
        ended(hole_id, at_s=at_s + 0.3, terminal=terminal),
    ]


def open_store(
    state_dir: Path, *, segment_bytes: int = 1_000_000, durability: str = "process"
) -> Store:
    return Store(state_dir, durability=durability, segment_bytes=segment_bytes)


def look_through(store: Store, **options: Any) -> Found:
    """What a start would find in the store as it is now."""
    chosen: dict[str, Any] = {"optional_kinds": ["heads"], "past_s": 1e9, "judged_since_s": 0.0}
    return recover(store.connection, store.segments_directory, **(chosen | options))


def crash(store: Store, to: Path) -> Path:
    """The disk as kill -9 of its process would leave it, in a new state directory.

    The write-ahead log is not moved into the database, and nothing says that the end was clean.
    """
    to.mkdir(parents=True)
    shutil.copytree(store.directory, to / DIRECTORY_NAME)
    store.close(is_clean=False)
    return to
