"""What commands ask of the broker on the control socket, and the replies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class StatsRequest:
    """Asks for the snapshot that `farm stats` shows."""

    KIND: ClassVar[int] = 32


@dataclass(frozen=True, slots=True)
class StatsReply:
    """The snapshot: plain JSON-able data, described in `farm.broker.snapshot`."""

    KIND: ClassVar[int] = 33
    snapshot: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Drain:
    """Take in nothing new, finish and publish what is open, then end."""

    KIND: ClassVar[int] = 34


@dataclass(frozen=True, slots=True)
class Done:
    """The request was understood and is being carried out."""

    KIND: ClassVar[int] = 35


@dataclass(frozen=True, slots=True)
class Pause:
    """Take in nothing more until Resume; what was taken in is finished."""

    KIND: ClassVar[int] = 36


@dataclass(frozen=True, slots=True)
class Resume:
    """Take in messages again."""

    KIND: ClassVar[int] = 37


@dataclass(frozen=True, slots=True)
class Scale:
    """Keep this many local workers from now on; AUTO: as many as the load and the bounds say."""

    KIND: ClassVar[int] = 38
    AUTO: ClassVar[int] = -1
    workers: int


@dataclass(frozen=True, slots=True)
class DrainWorker:
    """Have the workers of this name finish what they have and leave."""

    KIND: ClassVar[int] = 52
    name: str


@dataclass(frozen=True, slots=True)
class LogLevel:
    """Have a part log at this level for so many seconds; "": only tell who does what."""

    KIND: ClassVar[int] = 58
    level: str
    part: str  # as `process` in the lines of the log, or all, or workers
    for_s: float


@dataclass(frozen=True, slots=True)
class LogLevels:
    """The reply: the configured level, and by part what differs, as [level, seconds left]."""

    KIND: ClassVar[int] = 59
    configured: str
    changes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Retry:
    """Compute these dead letters again, under new hole ids."""

    KIND: ClassVar[int] = 39
    hole_ids: list[int]


@dataclass(frozen=True, slots=True)
class Drop:
    """Strike these dead letters off the list; their records go with the journal's retention."""

    KIND: ClassVar[int] = 40
    hole_ids: list[int]


@dataclass(frozen=True, slots=True)
class Handled:
    """The reply to Retry and Drop: which were done, and why the others were not."""

    KIND: ClassVar[int] = 41
    done: list[int]
    refused: list[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class StoryRequest:
    """Asks what has happened so far to the open holes of this key."""

    KIND: ClassVar[int] = 42
    source: str
    part_id: str


@dataclass(frozen=True, slots=True)
class StoryReply:
    """The stories of open holes, as `farm.broker.story.Story.told` gives them, by hole id."""

    KIND: ClassVar[int] = 43
    stories: dict[str, Any]
