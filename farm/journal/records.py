"""What is written to the journal: one frozen record for each thing that must outlive the broker.

Times are seconds since 1970 (UTC). Values and provenance are what came over the wire, so they can
be packed. Nothing here does I/O.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farm.adapter import Publication


class HoleState(IntEnum):
    """How far a hole has come, as the journal knows it."""

    OPEN = 0  # complete or given up, no answer recorded
    ANSWERED = 1  # its publications are recorded, and MQTT has not confirmed all of them
    ENDED = 2


class Message(NamedTuple):
    """A message from MQTT; acknowledged once this is on disk."""

    message_id: int
    at_s: float
    kind: str
    source: str
    part_id: str | None
    topic: str
    payload: bytes
    crc: int  # zlib.crc32 of the payload
    note: str = ""  # why no hole needs it; "" while one may


class Closed(NamedTuple):
    """A message that no hole will need, and why."""

    message_id: int
    note: str


class Opened(NamedTuple):
    """A hole: the messages that make it, by kind."""

    hole_id: int
    source: str
    part_id: str
    messages: Mapping[str, int]
    at_s: float
    first_s: float
    last_s: float
    retry_of: int | None = None


class Hurt(NamedTuple):
    """A hole has cost a worker."""

    hole_id: int
    deaths: int
    story: list[Any]


class Answered(NamedTuple):
    """How a hole ended, with the exact bytes that are to be published."""

    hole_id: int
    at_s: float
    terminal: str
    status: str
    reason: str
    value: Any
    provenance: Mapping[str, Any]
    model_version: str
    model_hash: str
    publications: tuple[Publication, ...]
    story: list[Any]


class Ended(NamedTuple):
    """MQTT has confirmed all publications of a hole, or refused some."""

    hole_id: int
    at_s: float
    terminal: str
    refusals: str = ""  # in words


class Rejected(NamedTuple):
    """A message that belongs to no hole, and the error that is to be published."""

    rejection_id: int
    message_id: int
    at_s: float
    source: str
    kind: str
    reason: str
    publications: tuple[Publication, ...]


class RejectionEnded(NamedTuple):
    """MQTT has confirmed the error."""

    rejection_id: int
    at_s: float


class Resolved(NamedTuple):
    """An operator dealt with a dead letter; `how` is retried or dropped."""

    hole_id: int
    how: str


class Watermark(NamedTuple):
    """No message before this one waits for a partner any more."""

    message_id: int


class Setting(NamedTuple):
    """Something an operator decided that a restart must not forget."""

    key: str
    value: str


Record = (
    Message
    | Closed
    | Opened
    | Hurt
    | Answered
    | Ended
    | Rejected
    | RejectionEnded
    | Resolved
    | Watermark
    | Setting
)


def payload_bytes(record: Record) -> int:
    """About how much a record adds to a commit."""
    return len(record.payload) if type(record) is Message else 0
