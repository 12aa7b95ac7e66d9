"""The kind of each message, and its fields in the order in which they travel."""

from __future__ import annotations

import typing
from dataclasses import fields
from typing import Any

from farm.slot import MAX_JOBS
from farm.wire.checks import CHECKS
from farm.wire.command import (
    Done,
    Drain,
    DrainWorker,
    Drop,
    Handled,
    LogLevel,
    LogLevels,
    Pause,
    Resume,
    Retry,
    Scale,
    StatsReply,
    StatsRequest,
    StoryReply,
    StoryRequest,
)
from farm.wire.jobs import Bounce, Bye, Claim, Result
from farm.wire.limits import MAX_KEY_CHARS, MAX_NAME_CHARS, MAX_REASON_CHARS
from farm.wire.nursery import Fork, Load, NurseryReady
from farm.wire.supervision import (
    Configured,
    FleetOrders,
    FleetReport,
    Reload,
    SupervisorOrders,
    SupervisorReport,
)
from farm.wire.worker import Fetch, Heartbeat, Hello, Orders, Piece, Ready, Refused, Welcome

if typing.TYPE_CHECKING:
    from collections.abc import Callable

Message = (
    Claim
    | Bounce
    | Result
    | Bye
    | Hello
    | Welcome
    | Refused
    | Ready
    | Heartbeat
    | Orders
    | Fetch
    | Piece
    | StatsRequest
    | StatsReply
    | Drain
    | Done
    | Pause
    | Resume
    | Scale
    | Configured
    | DrainWorker
    | LogLevel
    | LogLevels
    | Retry
    | Drop
    | Handled
    | StoryRequest
    | StoryReply
    | Reload
    | SupervisorReport
    | SupervisorOrders
    | FleetReport
    | FleetOrders
    | Load
    | NurseryReady
    | Fork
)

# Those of named tuples, which have no room for it: see `farm.wire.jobs`.
_HOT_KINDS: dict[type[Any], int] = {Claim: 2, Bounce: 3, Result: 4}
KINDS: dict[type[Any], int] = {
    cls: _HOT_KINDS.get(cls) or cls.KIND for cls in typing.get_args(Message)
}
BY_KIND = {kind: cls for cls, kind in KINDS.items()}
# How long a text of a message may be, how many ids it may have; others are bounded by the head.
_MOST_OF: dict[tuple[type[Any], str], int] = {
    (Claim, "job_ids"): MAX_JOBS,
    (Claim, "tickets"): MAX_JOBS,
    (Bounce, "job_ids"): MAX_JOBS,
    (Bounce, "tickets"): MAX_JOBS,
    (Result, "status"): MAX_NAME_CHARS,
    (Result, "reason"): MAX_REASON_CHARS,
    (Result, "model_version"): MAX_NAME_CHARS,
    (Result, "model_hash"): MAX_NAME_CHARS,
    (Bye, "reason"): MAX_KEY_CHARS,
    (Hello, "name"): MAX_NAME_CHARS,
    (Hello, "host"): MAX_NAME_CHARS,
    (Hello, "device"): MAX_NAME_CHARS,
    (Ready, "model_version"): MAX_NAME_CHARS,
    (Ready, "model_hash"): MAX_NAME_CHARS,
    (Heartbeat, "state"): MAX_NAME_CHARS,
    (Fetch, "name"): MAX_NAME_CHARS,
    (DrainWorker, "name"): MAX_NAME_CHARS,
    (LogLevel, "level"): MAX_NAME_CHARS,
    (LogLevel, "part"): MAX_KEY_CHARS,
    (StoryRequest, "source"): MAX_KEY_CHARS,
    (StoryRequest, "part_id"): MAX_KEY_CHARS,
    (Fork, "name"): MAX_NAME_CHARS,
}


def _layout(cls: type[Any]) -> tuple[tuple[str, Callable[[Any], bool], int], ...]:
    """Name, check and most characters or items (0: any) of each field, in order."""
    hints = typing.get_type_hints(cls)
    names = cls._fields if cls in _HOT_KINDS else [field.name for field in fields(cls)]
    return tuple((name, CHECKS[hints[name]], _MOST_OF.get((cls, name), 0)) for name in names)


LAYOUTS = {cls: _layout(cls) for cls in KINDS}


def kind_of(cls: type[Any]) -> int:
    """The byte that tells messages of this class."""
    return KINDS[cls]
