"""What was seen of a run under chaos: what was sent, heard and written down, and what broke when.

Plain data; `farm.simulation.chaos.check` judges it. All times are monotonic seconds.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farm.simulation.chaos.faults import Fault, Struck
    from farm.simulation.mqtt import Delivery, Outage
    from farm.simulation.units import HoleKey


class Fate(Enum):
    """What a hole deserves."""

    SOUND = "sound"  # an answer of the model
    POISON = "poison"  # the four others: one dead letter
    UNPAIRED = "unpaired"
    UNREADABLE = "unreadable"  # a part can be attributed, and not be read
    UNATTRIBUTABLE = "unattributable"  # a part names no hole: a rejection, and the rest is unpaired


@dataclass(slots=True)
class Message:
    """One message of a unit's; repeats of it are messages of their own."""

    topic: str
    source: str  # "toolbox/tool"
    crc: int
    length: int
    is_needed: bool = True  # a part of a hole, not a repeat of one
    is_rejected: bool = False  # it belongs to no hole: the farm must say so
    sent_s: float | None = None
    acknowledged_s: float | None = None  # by the MQTT broker

    @classmethod
    def of(
        cls,
        topic: str,
        source: str,
        payload: bytes,
        *,
        is_needed: bool = True,
        is_rejected: bool = False,
    ) -> Message:
        """The message with this payload, which is not kept."""
        return cls(topic, source, zlib.crc32(payload), len(payload), is_needed, is_rejected)


@dataclass(frozen=True, slots=True)
class SentHole:
    """One generated hole. A stray message is in `History.strays` instead."""

    source: str
    result_id: str
    fate: Fate
    twists: frozenset[Fault]  # what else is wrong with its messages
    messages: tuple[Message, ...]

    @property
    def key(self) -> HoleKey:
        """The tool and the result id."""
        return self.source, self.result_id

    @property
    def is_acknowledged(self) -> bool:
        """The MQTT broker has taken all of it."""
        return all(m.acknowledged_s is not None for m in self.messages if m.is_needed)

    @property
    def complete_s(self) -> float:
        """When its last part was handed over."""
        return max(m.sent_s or 0.0 for m in self.messages if m.is_needed)


@dataclass(frozen=True, slots=True)
class Life:
    """One process of the farm's broker. Its end lies between two looks, or is our own kill's."""

    pid: int
    began_s: float
    ended_after_s: float | None = None  # alive at this time; None: it was ended by our stop
    ended_by_s: float | None = None  # gone at this time


@dataclass(frozen=True, slots=True)
class HoleRow:
    """A hole as the journal has it, less its messages."""

    hole_id: int
    source: str
    part_id: str
    state: int  # a `farm.journal.records.HoleState`
    terminal: str | None
    reason: str
    publications: tuple[tuple[str, bytes], ...]  # topic, payload
    at_s: float
    answered_s: float | None
    ended_s: float | None
    deaths: int
    retry_of: int | None = None

    @property
    def key(self) -> HoleKey:
        """The tool and the result id."""
        return self.source, self.part_id


@dataclass(frozen=True, slots=True)
class RejectionRow:
    """A message that the farm could attribute to no hole."""

    source: str
    crc: int
    length: int
    reason: str
    publications: tuple[tuple[str, bytes], ...]
    is_ended: bool


@dataclass(frozen=True, slots=True)
class Records:
    """The journal after the farm's stop."""

    holes: list[HoleRow]
    rejections: list[RejectionRow]


@dataclass(slots=True)
class History:
    """Everything that the judgement is made of.

    Attributes:
        began_s: of the load.
        ended_s: of the load; what followed was draining.
        holes: as generated.
        strays: messages that belong to no hole.
        heard: every message from the farm, in the order it came.
        lives: of the broker process.
        breaks: times without a usable connection between farm and mosquitto.
        deaf: times in which our own ears had no connection.
        struck: the faults as they were done.
        records: of the journal; None where there is none.
        stats: the last snapshot, after draining; None: nobody answered.
        objective_s: a hole that waits longer may be overtaken.
        keypoints, depth: the last level of the topics of answers.
        worker_pids: processes of workers seen.
        is_drained: nothing was open any more before the farm was stopped.
        faults_of_the_farm: what it should not have done, as sentences: ended by itself, did not
            stop in good order, left processes behind, kept a frozen worker.
    """

    began_s: float
    ended_s: float
    holes: list[SentHole]
    strays: list[Message]
    heard: list[Delivery]
    lives: list[Life]
    breaks: list[Outage]
    deaf: list[Outage]
    struck: list[Struck]
    records: Records | None
    stats: dict[str, Any] | None
    objective_s: float
    keypoints: str
    depth: str
    worker_pids: int = 0
    is_drained: bool = True
    faults_of_the_farm: list[str] = field(default_factory=list)
