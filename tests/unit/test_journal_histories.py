"""Random histories of the journal, cut by crashes, against a model of a few dictionaries."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from journals import answered, crash, ended, look_through, message, open_store, opened, rejected

from farm.adapter import Publication
from farm.journal import records as r
from farm.journal.housekeeping import Retention
from farm.journal.ids import first_id
from farm.journal.segments import numbers, path_of

KINDS = ("result", "trace", "heads")
SOURCES = ("BOX-1/UNIT-1", "BOX-1/UNIT-2")
UNLUCKY = ("dead", "shed")
TERMINALS = ("published", "insufficient", "skipped", *UNLUCKY)
SEGMENT_BYTES = 400


@dataclass
class Hole:
    """What must be known of a hole."""

    opened: r.Opened
    deaths: int = 0
    answer: r.Answered | None = None
    terminal: str = ""  # once MQTT has confirmed
    resolved: bool = False

    @property
    def is_dead_letter(self) -> bool:
        return self.terminal in UNLUCKY and not self.resolved


@dataclass
class World:
    """What a journal must hold, if all records up to here were written."""

    messages: dict[int, r.Message] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)
    holes: dict[int, Hole] = field(default_factory=dict)
    rejections: dict[int, bool] = field(default_factory=dict)  # whether it is confirmed
    watermark: int = 0
    paused: bool = False

    def note(self, record: r.Record) -> None:
        match record:
            case r.Message():
                self.messages[record.message_id] = record
                if record.note:
                    self.closed.add(record.message_id)
            case r.Closed():
                self.closed.add(record.message_id)
            case r.Rejected() | r.RejectionEnded():
                self.rejections[record.rejection_id] = isinstance(record, r.RejectionEnded)
            case r.Watermark():
                self.watermark = record.message_id
            case r.Setting():
                self.paused = record.value == "1"
            case _:
                self.note_of_hole(record)

    def note_of_hole(self, record: r.Record) -> None:
        match record:
            case r.Opened():
                self.holes[record.hole_id] = Hole(record)
            case r.Hurt():
                self.holes[record.hole_id].deaths = record.deaths
            case r.Answered():
                self.holes[record.hole_id].answer = record
            case r.Ended():
                self.holes[record.hole_id].terminal = record.terminal
            case r.Resolved():
                self.holes[record.hole_id].resolved = True

    @property
    def taken(self) -> set[int]:
        return {i for hole in self.holes.values() for i in hole.opened.messages.values()}

    @property
    def waiting(self) -> list[int]:
        free = self.messages.keys() - self.taken - self.closed
        return sorted(i for i in free if i >= self.watermark)

    def chosen(self, *, is_answered: bool, is_ended: bool) -> list[int]:
        """The ids of the holes that have come so far."""
        return [
            hole_id
            for hole_id, hole in self.holes.items()
            if (hole.answer is not None) is is_answered and bool(hole.terminal) is is_ended
        ]

    @property
    def dead_letters(self) -> list[int]:
        return [hole_id for hole_id, hole in self.holes.items() if hole.is_dead_letter]


class Histories(RuleBasedStateMachine):
    """Records as the broker may write them, in batches of any size, lives of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="farm-journal-"))
        self.lives = 0
        self.time_s = 1000.0
        self.pending: list[r.Record] = []
        self.written, self.told = World(), World()  # told: written and pending
        self.has_forgotten = False

    @initialize()
    def begin(self) -> None:
        state_dir = self.directory / "0"
        state_dir.mkdir()
        self.store = open_store(state_dir, segment_bytes=SEGMENT_BYTES)
        self.last_id = first_id(self.store.life)
        self.retention = self.make_retention()

    def make_retention(self) -> Retention:
        # what has ended may go at once; what is open, or a dead letter, never
        retention = Retention(keep_s=0.0, keep_bytes=0, keep_dead_s=1e9, utc=lambda: self.time_s)
        retention.kept_kinds = ("heads",)
        return retention

    def teardown(self) -> None:
        self.check_after(self.cut)
        self.store.close(is_clean=True)
        shutil.rmtree(self.directory)

    def new_id(self) -> int:
        self.last_id += 1
        return self.last_id

    def say(self, *records: r.Record) -> None:
        self.time_s += 1.0
        for record in records:
            self.pending.append(record)
            self.told.note(record)

    # ---- what may happen

    @rule(
        kind=st.sampled_from(KINDS),
        source=st.sampled_from(SOURCES),
        part_id=st.sampled_from(["1", "2", None]),
        payload=st.binary(max_size=200),
        note=st.sampled_from(["", "", "", "a duplicate"]),
    )
    def receive(self, **fields: Any) -> None:
        payload = fields.pop("payload")
        self.say(message(self.new_id(), payload, at_s=self.time_s, **fields))

    @precondition(lambda self: self.told.waiting)
    @rule(data=st.data())
    def close_one(self, data: st.DataObject) -> None:
        self.say(r.Closed(data.draw(st.sampled_from(self.told.waiting)), "of no use"))

    @precondition(lambda self: self.told.waiting)
    @rule(data=st.data(), is_split=st.booleans())
    def open_a_hole(self, data: st.DataObject, is_split: bool) -> None:
        some = data.draw(st.lists(st.sampled_from(self.told.waiting), min_size=1, max_size=3))
        parts = {self.told.messages[i].kind: i for i in some}
        first = self.told.messages[some[0]]
        self.say(
            opened(
                self.new_id(), parts, source=first.source, part_id=first.part_id or "",
                at_s=self.time_s,
            )
        )  # fmt: skip
        if is_split:
            self.write(some=1)

    @precondition(lambda self: self.told.chosen(is_answered=False, is_ended=False))
    @rule(data=st.data())
    def lose_a_worker(self, data: st.DataObject) -> None:
        hole_id = data.draw(st.sampled_from(self.told.chosen(is_answered=False, is_ended=False)))
        self.say(r.Hurt(hole_id, self.told.holes[hole_id].deaths + 1, [[self.time_s, 0, []]]))

    @precondition(lambda self: self.told.chosen(is_answered=False, is_ended=False))
    @rule(data=st.data(), terminal=st.sampled_from(TERMINALS), count=st.integers(0, 3))
    def answer(self, data: st.DataObject, terminal: str, count: int) -> None:
        hole_id = data.draw(st.sampled_from(self.told.chosen(is_answered=False, is_ended=False)))
        publications = [Publication(f"out/{i}", os.urandom(i)) for i in range(count)]
        self.say(answered(hole_id, terminal=terminal, publications=publications, at_s=self.time_s))

    @precondition(lambda self: self.told.chosen(is_answered=True, is_ended=False))
    @rule(data=st.data(), is_refused=st.booleans())
    def confirm(self, data: st.DataObject, is_refused: bool) -> None:
        hole_id = data.draw(st.sampled_from(self.told.chosen(is_answered=True, is_ended=False)))
        answer = self.told.holes[hole_id].answer
        assert answer is not None
        terminal = "dead" if is_refused else answer.terminal
        self.say(ended(hole_id, at_s=self.time_s, terminal=terminal))

    @rule(is_confirmed=st.booleans())
    def reject(self, is_confirmed: bool) -> None:
        message_id, rejection_id = self.new_id(), self.new_id()
        self.say(
            message(message_id, note="no id", at_s=self.time_s),
            rejected(rejection_id, message_id, at_s=self.time_s),
        )
        if is_confirmed:
            self.say(r.RejectionEnded(rejection_id, self.time_s))

    @precondition(lambda self: self.told.dead_letters)
    @rule(data=st.data(), is_retried=st.booleans())
    def resolve(self, data: st.DataObject, is_retried: bool) -> None:
        hole_id = data.draw(st.sampled_from(self.told.dead_letters))
        self.say(r.Resolved(hole_id, "retried" if is_retried else "dropped"))
        if is_retried:
            old = self.told.holes[hole_id].opened
            self.say(
                opened(
                    self.new_id(), dict(old.messages), source=old.source, part_id=old.part_id,
                    at_s=self.time_s, retry_of=hole_id,
                )
            )  # fmt: skip

    @rule()
    def mark(self) -> None:
        waiting = self.told.waiting
        self.say(r.Watermark(waiting[0] if waiting else self.new_id()))

    @rule(is_paused=st.booleans())
    def pause(self, is_paused: bool) -> None:
        self.say(r.Setting("paused", "1" if is_paused else "0"))

    @rule(some=st.integers(1, 20))
    def write(self, some: int) -> None:
        batch, self.pending = self.pending[:some], self.pending[some:]
        self.store.write(batch)
        for record in batch:
            self.written.note(record)

    @rule(steps=st.integers(1, 8))
    def keep_house(self, steps: int) -> None:
        self.retention._next_look_s = 0.0
        for _ in range(steps):
            self.retention.step(self.store)
        self.has_forgotten = True

    # ---- how a life may end

    @rule()
    def die(self) -> None:
        self.check_after(self.cut)

    @rule()
    def stop(self) -> None:
        self.write(len(self.pending))

        def close() -> Path:
            self.store.close(is_clean=True)
            return self.store.directory.parent

        self.check_after(close)

    def cut(self) -> Path:
        """Like kill -9 in the middle of a write: what was not committed never was."""
        self.lives += 1
        state_dir = crash(self.store, self.directory / str(self.lives))
        segments = state_dir / "journal" / "segments"
        if there := numbers(segments):
            with path_of(segments, there[-1]).open("ab") as newest:
                newest.write(b"half a message")
        return state_dir

    def check_after(self, end: Any) -> None:
        life = self.store.life
        self.store = open_store(end(), segment_bytes=SEGMENT_BYTES)
        assert self.store.life == life + 1
        self.last_id = first_id(self.store.life)
        self.retention = self.make_retention()
        self.pending.clear()
        self.told = copy.deepcopy(self.written)
        self.compare()

    # ---- what must be found

    def compare(self) -> None:
        world, found = self.written, look_through(self.store)
        assert found.damaged == []
        assert found.is_paused is world.paused
        assert found.dead_letters == len(world.dead_letters)
        assert [(m.message_id, m.payload) for m in found.waiting] == [
            (i, world.messages[i].payload) for i in world.waiting
        ]
        self.compare_holes(found.holes)
        self.compare_letters(found.letters)
        self.compare_newest(found.newest)
        self.compare_memories(found)

    def compare_holes(self, found: list[Any]) -> None:
        unanswered = self.written.chosen(is_answered=False, is_ended=False)
        assert [hole.hole_id for hole in found] == sorted(unanswered)
        for hole in found:
            known = self.written.holes[hole.hole_id]
            assert hole.messages == known.opened.messages
            assert hole.deaths == known.deaths
            assert hole.payload_bytes == sum(
                len(self.written.messages[i].payload) for i in hole.messages.values()
            )

    def compare_letters(self, found: list[Any]) -> None:
        unconfirmed = self.written.chosen(is_answered=True, is_ended=False)
        rejections = [i for i, is_confirmed in self.written.rejections.items() if not is_confirmed]
        assert [letter.letter_id for letter in found] == sorted([*unconfirmed, *rejections])
        for letter in found:
            hole = self.written.holes.get(letter.letter_id)
            if hole is None:
                assert (letter.terminal, letter.count) == (None, 1)
            else:
                assert hole.answer is not None
                assert letter.terminal == hole.answer.terminal
                assert letter.count == len(hole.answer.publications)

    def compare_newest(self, found: list[Any]) -> None:
        newest = {
            m.source: m.payload
            for _, m in sorted(self.written.messages.items())
            if m.kind == "heads"
        }
        assert {m.source: m.payload for m in found} == newest

    def compare_memories(self, found: Any) -> None:
        joins = {h for h, hole in self.written.holes.items() if hole.opened.retry_of is None}
        judged = {h for h, hole in self.written.holes.items() if hole.answer is not None}
        if self.has_forgotten:  # these may be gone, and no others may have come
            assert len(found.past) <= len(joins)
            assert len(found.judged) <= len(judged)
            return
        assert len(found.past) == len(joins)
        assert len(found.judged) == len(judged)
        for past, hole_id in zip(found.past, sorted(joins), strict=True):
            messages = self.written.holes[hole_id].opened.messages
            assert past.prints == {
                kind: (self.written.messages[i].crc, len(self.written.messages[i].payload))
                for kind, i in messages.items()
            }


Histories.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestHistories = Histories.TestCase
