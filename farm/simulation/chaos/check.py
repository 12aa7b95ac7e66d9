"""Judges the history of a run: was every hole that MQTT took answered, once, as it deserves?

Pure: `check` takes a `History` and returns a `Verdict`. What it asks, and what it forgives:

* Every hole that the MQTT broker acknowledged completely has one row in the journal, and that row
  has ended: with a value or the model's reason where the hole was sound, else as a dead letter.
* Every publication of a row was heard, byte for byte; nothing else was heard of that hole.
* A publication is repeated only where it could not be known to have arrived. The journal tells when
  an answer was recorded (before it is first published) and when MQTT had confirmed all of it. Only
  if a life of the broker process ended between the two, or its connection broke, may the same bytes
  come again: the new life does not know, or MQTT's QoS 1 sends what was not confirmed once more.
  Any other repeat is a hole *published twice*, and so is one after its confirmation.
* A repeat that MQTT marks as redelivered, after our own ears had lost their connection, is none of
  the farm's.
* Per tool, answers come in the order in which the holes were complete (that of their ids), except
  around the end of a life, and for holes that waited longer than the objective: those let others
  pass.
* A message that belongs to no hole is rejected, with an error that is heard; no other one is.

Without a journal (durability off) what depends on its rows is not asked, and a repeat is forgiven
for a break within `BLIND_S` before it.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from farm.simulation.chaos.history import Fate
from farm.simulation.report import Latency, latency

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from farm.simulation.chaos.history import History, HoleRow, Message, SentHole
    from farm.simulation.mqtt import Delivery
    from farm.simulation.units import HoleKey

ENDED: Final = 2  # the state of a hole's row that needs nothing more
DEAD: Final = "dead"
GOOD_ENDS: Final = frozenset({"published", "insufficient", "skipped"})
# Times of the journal are UTC and ours monotonic; both are of this machine.
CLOCK_SLACK_S: Final = 0.1
BLIND_S: Final = 10.0
# How answers without a model's word begin; for where no journal tells.
_GIVEN_UP: Final = ("Not paired", "Gave up")


class Flaw(Enum):
    """What a farm may never do."""

    LOST = "lost"
    OPEN = "without an end"
    TWICE = "published twice within a life"
    BYTES = "repeated with other bytes"
    SPLIT = "more than one hole of one"
    FATE = "a wrong end"
    ORDER = "out of order"
    UNTOLD = "rejected without a word"
    STRANGER = "answers nobody asked for"
    STATS = "stats that do not add up"
    FARM = "faults of the farm itself"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that must not be."""

    flaw: Flaw
    what: str  # a sentence, with the hole's key


@dataclass(slots=True)
class Verdict:
    """The account of a run."""

    violations: list[Violation] = field(default_factory=list)
    holes: int = 0
    acknowledged: int = 0
    answered: int = 0  # of those
    dead: Counter[str] = field(default_factory=Counter)  # by what the hole deserved
    rejections: int = 0
    across_lives: int = 0  # repeats of the very same bytes, as they are allowed
    across_breaks: int = 0
    redelivered: int = 0  # by MQTT to our own ears
    faults: Counter[str] = field(default_factory=Counter)
    lives: int = 0
    workers: int = 0
    latency: Latency = field(default_factory=lambda: Latency(0))
    quiet: Latency = field(default_factory=lambda: Latency(0))
    longest_gap_s: float = 0.0  # without any answer, while there was load

    @property
    def is_good(self) -> bool:
        """Nothing was lost, and nothing else is wrong either."""
        return not self.violations

    def count(self, flaw: Flaw) -> int:
        """How many violations of a kind."""
        return sum(violation.flaw is flaw for violation in self.violations)


class _Answer(NamedTuple):
    """One delivery about a hole."""

    tail: str
    delivery: Delivery
    reason: str  # of an error, else ""


def check(history: History) -> Verdict:
    """Judge a run."""
    return _Judge(history).judge()


class _Judge:
    """Holds the indexes of one judgement."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._verdict = Verdict()
        self._sent = {hole.key: hole for hole in history.holes}
        self._rows: dict[HoleKey, list[HoleRow]] = defaultdict(list)
        for row in history.records.holes if history.records else ():
            self._rows[row.key].append(row)
        self._answers: dict[HoleKey, list[_Answer]] = defaultdict(list)
        self._bytes_heard: set[tuple[str, bytes]] = set()
        for delivery in history.heard:
            self._index(delivery)

    def judge(self) -> Verdict:
        """All of it."""
        self._count()
        for hole in self._history.holes:
            self._judge_hole(hole)
        for key, answers in self._answers.items():
            self._judge_repeats(key, answers)
        self._judge_strangers()
        if self._history.records is not None:
            self._judge_order()
            self._judge_rejections()
        self._judge_farm()
        self._measure()
        return self._verdict

    def _accuse(self, flaw: Flaw, what: str, key: HoleKey | None = None) -> None:
        name = f"{'/'.join(key)}: " if key else ""
        self._verdict.violations.append(Violation(flaw, name + what))

    def _index(self, delivery: Delivery) -> None:
        self._bytes_heard.add((delivery.topic, delivery.payload))
        tail = delivery.topic.rsplit("/", 1)[-1]
        if tail not in {self._history.keypoints, self._history.depth}:
            return
        body = json.loads(delivery.payload)
        _root, toolbox, tool, _tail = delivery.topic.split("/")
        reason = str(body["Value"]) if body.get("Error") else ""
        key = (f"{toolbox}/{tool}", str(body["ResultId"]))
        self._answers[key].append(_Answer(tail, delivery, reason))

    def _count(self) -> None:
        history, verdict = self._history, self._verdict
        verdict.holes = len(history.holes)
        verdict.acknowledged = sum(hole.is_acknowledged for hole in history.holes)
        verdict.faults.update(struck.fault.value for struck in history.struck)
        verdict.faults.update(twist.value for hole in history.holes for twist in hole.twists)
        verdict.lives = len(history.lives)
        verdict.workers = history.worker_pids

    # ---- one hole -----------------------------------------------------------------------------

    def _judge_hole(self, hole: SentHole) -> None:
        rows = self._rows.get(hole.key, [])
        tails = {answer.tail for answer in self._answers.get(hole.key, ())}
        is_heard = tails == {self._history.keypoints, self._history.depth}
        if hole.is_acknowledged:
            self._verdict.answered += is_heard
            if not is_heard:
                self._accuse(Flaw.LOST, _what_is_known(hole, rows, tails), hole.key)
        if self._history.records is None:
            self._judge_by_ear(hole)
            return
        if len(rows) > 1:
            told = ", ".join(f"{row.terminal} ({row.reason or 'no reason'})" for row in rows)
            self._accuse(Flaw.SPLIT, f"it became {len(rows)} holes: {told}", hole.key)
        if hole.is_acknowledged and not rows:
            self._accuse(Flaw.OPEN, "the journal does not know it", hole.key)
        for row in rows:
            self._judge_row(hole, row)

    def _judge_row(self, hole: SentHole, row: HoleRow) -> None:
        if row.state != ENDED or row.terminal is None:
            self._accuse(Flaw.OPEN, f"the journal has it in state {row.state}", hole.key)
            return
        if row.terminal == DEAD:
            self._verdict.dead[hole.fate.value] += 1
        is_due = hole.is_acknowledged  # else a part may never have come
        if hole.fate is Fate.SOUND and row.terminal not in GOOD_ENDS and is_due:
            self._accuse(Flaw.FATE, f"sound, and {row.terminal}: {row.reason}", hole.key)
        if hole.fate is not Fate.SOUND and row.terminal != DEAD and is_due:
            self._accuse(Flaw.FATE, f"{hole.fate.value}, and {row.terminal}", hole.key)
        for topic, payload in row.publications:
            if (topic, payload) not in self._bytes_heard:
                tail = topic.rsplit("/", 1)[-1]
                self._accuse(Flaw.LOST, f"its {tail} was never heard as recorded", hole.key)
        recorded = set(row.publications)
        for answer in self._answers.get(hole.key, ()):
            heard = (answer.delivery.topic, answer.delivery.payload)
            if len(self._rows[hole.key]) == 1 and heard not in recorded:
                what = f"heard {answer.delivery.payload!r:.200}, which the journal does not have"
                self._accuse(Flaw.BYTES, what, hole.key)

    def _judge_by_ear(self, hole: SentHole) -> None:
        for answer in self._answers.get(hole.key, ())[:1]:
            if answer.reason.startswith(_GIVEN_UP):
                self._verdict.dead[hole.fate.value] += 1
                if hole.fate is Fate.SOUND and hole.is_acknowledged:
                    self._accuse(Flaw.FATE, f"sound, and dead: {answer.reason}", hole.key)

    def _judge_repeats(self, key: HoleKey, answers: Sequence[_Answer]) -> None:
        by_tail: dict[str, list[Delivery]] = defaultdict(list)
        for answer in answers:
            by_tail[answer.tail].append(answer.delivery)
        for tail, deliveries in by_tail.items():
            for earlier, later in pairwise(deliveries):
                if later.payload != earlier.payload:
                    what = f"{tail}: {earlier.payload!r:.300} and then {later.payload!r:.300}"
                    self._accuse(Flaw.BYTES, what, key)
                self._judge_repeat(key, tail, earlier, later)

    def _judge_repeat(self, key: HoleKey, tail: str, earlier: Delivery, later: Delivery) -> None:
        deaf = ((outage.from_s, outage.to_s) for outage in self._history.deaf)
        if later.is_redelivered and _meets(deaf, earlier.heard_s, later.heard_s):
            self._verdict.redelivered += 1
            return
        from_s, to_s = self._unconfirmed(key, later)
        if _meets(self._ends_of_lives(), from_s, to_s):
            self._verdict.across_lives += 1
        elif _meets(((b.from_s, b.to_s) for b in self._history.breaks), from_s, to_s):
            self._verdict.across_breaks += 1
        else:
            after_s = later.heard_s - earlier.heard_s
            what = (
                f"{tail} came again after {after_s:.2f} s, {later.heard_s - self._began_s:.1f} s"
                " into the run, and neither a life nor a connection had ended"
            )
            self._accuse(Flaw.TWICE, what, key)

    def _unconfirmed(self, key: HoleKey, later: Delivery) -> tuple[float, float]:
        """The time in which the farm could not know whether its answer had arrived."""
        rows = self._rows.get(key)
        if not rows:
            return later.heard_s - BLIND_S, later.heard_s
        since = [row.answered_s for row in rows if row.answered_s is not None]
        until = [math.inf if row.ended_s is None else row.ended_s for row in rows]
        return min(since, default=later.heard_s), max(until)

    def _ends_of_lives(self) -> Iterable[tuple[float, float]]:
        for life in self._history.lives:
            if life.ended_after_s is not None and life.ended_by_s is not None:
                yield life.ended_after_s, life.ended_by_s

    @property
    def _began_s(self) -> float:
        return self._history.began_s

    # ---- the whole ----------------------------------------------------------------------------

    def _judge_strangers(self) -> None:
        for key in self._answers.keys() - self._sent.keys():
            self._accuse(Flaw.STRANGER, "answered, and nobody drilled it", key)
        for key in self._rows.keys() - self._sent.keys():
            self._accuse(Flaw.STRANGER, "in the journal, and nobody drilled it", key)

    def _judge_order(self) -> None:
        first: dict[tuple[str, str], dict[HoleKey, float]] = defaultdict(dict)
        for key, answers in self._answers.items():
            for answer in answers:
                first[key[0], answer.tail].setdefault(key, answer.delivery.heard_s)
        for (_, tail), heard_s in first.items():
            newest: HoleRow | None = None
            for key in sorted(heard_s, key=heard_s.__getitem__):
                rows = self._rows.get(key)
                if not rows:
                    continue
                [row, *_] = rows
                if newest is None or row.hole_id > newest.hole_id:
                    newest = row
                elif not self._may_be_late(row, newest, heard_s[key]):
                    what = f"its {tail} came behind that of the later hole {newest.part_id}"
                    self._accuse(Flaw.ORDER, what, key)

    def _may_be_late(self, row: HoleRow, passed_by: HoleRow, heard_s: float) -> bool:
        answered_s = heard_s if row.answered_s is None else row.answered_s
        if answered_s - row.at_s > self._history.objective_s:
            return True
        return _meets(self._ends_of_lives(), min(row.at_s, passed_by.at_s), heard_s)

    def _judge_rejections(self) -> None:
        assert self._history.records is not None
        rejections = self._history.records.rejections
        self._verdict.rejections = len(rejections)
        told = defaultdict(list)
        for row in rejections:
            told[row.source, row.crc, row.length].append(row)
        due = {_print(message): message for message in self._rejects()}
        for name, message in due.items():
            if message.acknowledged_s is not None and name not in told:
                what = f"a message of {message.length} bytes on {message.topic} was not rejected"
                self._accuse(Flaw.UNTOLD, what)
        for name, rows in told.items():
            if name not in due:
                what = f"{name[0]}: a good message of {name[2]} bytes was refused: {rows[0].reason}"
                self._accuse(Flaw.FATE, what)
            heard = all(p in self._bytes_heard for row in rows for p in row.publications)
            if not heard or not all(row.is_ended for row in rows):
                self._accuse(Flaw.UNTOLD, f"{name[0]}: the error was not heard: {rows[0].reason}")

    def _rejects(self) -> Iterable[Message]:
        yield from self._history.strays
        yield from (m for hole in self._history.holes for m in hole.messages if m.is_rejected)

    def _judge_farm(self) -> None:
        for sentence in self._history.faults_of_the_farm:
            self._accuse(Flaw.FARM, sentence)
        if not self._history.is_drained:
            self._accuse(Flaw.FARM, "it had not finished everything in time")
        stats = self._history.stats
        if stats is None:
            self._accuse(Flaw.STATS, "nobody answered at the end")
            return
        holes = dict(stats["holes"])
        arrived, ended = holes.pop("arrived"), sum(holes.values())
        unanswered = stats["jobs"]["unanswered"]
        if arrived != ended + unanswered:
            what = f"{arrived} arrived, {ended} ended, {unanswered} unanswered"
            self._accuse(Flaw.STATS, what)

    # ---- how fast -----------------------------------------------------------------------------

    def _measure(self) -> None:
        history = self._history
        noises = [(struck.at_s, struck.felt_until_s) for struck in history.struck]
        everything, quiet = [], []
        for hole in history.holes:
            if hole.fate is not Fate.SOUND or not hole.is_acknowledged:
                continue
            heard_s = self._first_heard_s(hole.key)
            if heard_s is None:
                continue
            everything.append(heard_s - hole.complete_s)
            if not _meets(noises, hole.complete_s, heard_s, slack_s=0.0):
                quiet.append(heard_s - hole.complete_s)
        self._verdict.latency, self._verdict.quiet = latency(everything), latency(quiet)
        moments = [d.heard_s for d in history.heard if d.heard_s <= history.ended_s]
        ordered = sorted([history.began_s, *moments, history.ended_s])
        self._verdict.longest_gap_s = max(b - a for a, b in pairwise(ordered))

    def _first_heard_s(self, key: HoleKey) -> float | None:
        depths = (
            answer.delivery.heard_s
            for answer in self._answers.get(key, ())
            if answer.tail == self._history.depth
        )
        return min(depths, default=None)


def _meets(
    intervals: Iterable[tuple[float, float]],
    from_s: float,
    to_s: float,
    *,
    slack_s: float = CLOCK_SLACK_S,
) -> bool:
    """Whether one of the intervals has a moment in common with this one."""
    return any(a <= to_s + slack_s and b >= from_s - slack_s for a, b in intervals)


def _print(message: Message) -> tuple[str, int, int]:
    return message.source, message.crc, message.length


def _what_is_known(hole: SentHole, rows: Sequence[HoleRow], tails: set[str]) -> str:
    heard = f"only {', '.join(sorted(tails))} was heard" if tails else "no answer was heard"
    known = f"the journal says {rows[0].terminal or 'open'}" if rows else "the journal has no hole"
    return f"{hole.fate.value}: {heard}; {known}"
