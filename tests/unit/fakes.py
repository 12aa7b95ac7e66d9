"""A made-up traffic: topics ``box/tool/kind``, payloads ``id:anything``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from farm.adapter import Answer, Finished, Need, Publication, Route, Status, Terminal
from farm.broker.flow import Flow
from farm.clock import WallClock
from farm.errors import JournalError, ReadError
from farm.journal.records import Answered, Message, Rejected

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farm.adapter import Adapter
    from farm.broker.roster import Worker
    from farm.config import Config
    from farm.journal.records import Record

NEEDS = {"result": Need.REQUIRED, "trace": Need.REQUIRED, "heads": Need.OPTIONAL}


def payload(part_id: str | None, text: str = "") -> bytes:
    """A message of a join; without an id for None."""
    return f"{part_id or ''}:{text}".encode()


@dataclass
class FakeAnswerer:
    """Publishes ``source part_id status value-or-reason`` to ``out/source``."""

    asked: list[Finished] = field(default_factory=list)
    fails_on: Any = None  # raises on an answer with this value
    fails_always: bool = False
    alert: str = ""
    memory_s: float = 0.0

    def answer(self, finished: Finished, now_s: float) -> Answer:  # noqa: ARG002
        self.asked.append(finished)
        if self.fails_always or (self.fails_on is not None and finished.value == self.fails_on):
            raise RuntimeError("the answerer broke")
        terminal = {
            Status.OK: Terminal.PUBLISHED,
            Status.INSUFFICIENT: Terminal.INSUFFICIENT,
            Status.FAILED: Terminal.DEAD,
        }[finished.status]
        if finished.value == "skip":
            return Answer(Terminal.SKIPPED, (), counts=("skipped_holes",))
        text = f"{finished.part_id} {finished.status.value} {finished.value or finished.reason}"
        publication = Publication(f"out/{finished.source}", text.encode())
        return Answer(terminal, (publication,), alert=self.alert)

    def reject(self, route: Route, reason: str) -> tuple[Publication, ...]:
        if self.fails_always:
            raise RuntimeError("the answerer broke")
        return (Publication(f"out/{route.source}", f"{route.kind} rejected: {reason}".encode()),)


@dataclass
class FakeAdapter:
    """`farm.adapter.Adapter` for the made-up traffic."""

    needs: Mapping[str, Need] = field(default_factory=lambda: dict(NEEDS))
    made: FakeAnswerer = field(default_factory=FakeAnswerer)

    def topic_filters(self) -> tuple[str, ...]:
        return ("+/+/+",)

    def route(self, topic: str) -> Route | None:
        if topic == "box/tool/explodes":
            raise RuntimeError("the route broke")
        source, _, kind = topic.rpartition("/")
        return Route(kind, source) if kind in self.needs else None

    def part_id(self, kind: str, payload: bytes) -> str | None:
        if payload == b"explodes":
            raise RuntimeError("the reader broke")
        found, colon, _ = payload.partition(b":")
        if not colon:
            raise ReadError(f"The {kind} message has no colon")
        return found.decode() or None

    def read(self, parts: Mapping[str, bytes]) -> Any:
        for kind, part in sorted(parts.items()):
            if part.endswith(b"unreadable"):
                raise ReadError(f"The {kind} message is unreadable")
            if part.endswith(b"explodes"):
                raise RuntimeError("the reader broke")
        return {kind: part.decode() for kind, part in parts.items()}

    def describe(self, parts: Mapping[str, bytes]) -> Mapping[str, Any]:
        if any(part.endswith(b"undescribed") for part in parts.values()):
            raise RuntimeError("the description broke")
        if any(part.endswith(b"unsendable") for part in parts.values()):
            return {"what": object()}
        return {"kinds": sorted(parts)}

    def answerer(self) -> FakeAnswerer:
        return self.made


UTC_S = 1_700_000_000.0  # what the clock on the wall says when the monotonic one says 0


class FakeJournal:
    """`farm.journal.journal.Recorder` in memory. With `lag` set, nothing is durable until told."""

    is_durable = True
    life = 7

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.lags = False
        self.written = 0  # the position that counts while it lags
        self.failure = ""
        self.is_behind = False
        self.damaged: set[int] = set()  # messages that can't be read any more
        self.reads = 0

    @property
    def position(self) -> int:
        return len(self.records)

    @property
    def durable(self) -> int:
        return self.written if self.lags else self.position

    def append(self, record: Record, *, is_urgent: bool = False) -> int:  # noqa: ARG002
        self.records.append(record)
        return self.position

    def of(self, *kinds: type[Any]) -> list[Any]:
        """The records of these kinds, in order."""
        return [record for record in self.records if isinstance(record, kinds)]

    def parts(self, messages: Mapping[str, int]) -> dict[str, bytes]:
        self.reads += 1
        kept = {m.message_id: m.payload for m in self.of(Message)}
        for kind, message_id in messages.items():
            if message_id in self.damaged or message_id not in kept:
                raise JournalError(f"the {kind} message is damaged")
        return {kind: kept[message_id] for kind, message_id in messages.items()}

    def publications(self, letter_id: int) -> tuple[Publication, ...]:
        self.reads += 1
        for answered in self.of(Answered):
            if answered.hole_id == letter_id:
                return answered.publications
        for rejected in self.of(Rejected):
            if rejected.rejection_id == letter_id:
                return rejected.publications
        raise JournalError(f"letter {letter_id} is damaged")


def make_flow(
    config: Config,
    adapter: Adapter | None = None,
    *,
    journal: FakeJournal | None = None,
    slots: dict[int, frozenset[int]] | None = None,
) -> Flow:
    """A flow at monotonic time 0; `slots` tells by worker id what a dead worker was computing."""

    def read_slot(worker: Worker) -> frozenset[int] | None:
        return None if slots is None else slots.get(worker.worker_id)

    return Flow(
        config,
        adapter or FakeAdapter(),
        0.0,
        journal=journal or FakeJournal(),
        clock=WallClock(lambda: UTC_S, lambda: 0.0),
        instance="test",
        read_slot=read_slot,
    )
