"""What the units publish under chaos: good holes, and those with something wrong about them.

Pure: it takes holes and random numbers and says which message goes out when, and what the hole
deserves. Sending is `farm.simulation.chaos.drill`.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import TYPE_CHECKING, Final

from farm.simulation.chaos.faults import SHARES, Fault
from farm.simulation.chaos.history import Fate, Message, SentHole
from farm.simulation.chaos.poison import Poison, poisoned
from farm.simulation.gateway import HEADS, RESULT, TRACE

if TYPE_CHECKING:
    from collections.abc import Collection

    from farm.simulation.schedule import OutgoingHole

PART_GAP_S: Final = 0.02  # between the parts of a hole, at most: a gateway's own
# Far within the farm's time window, of which an undiscovered dead link may take a part.
SKEW_S: Final = (0.2, 2.0)
LATE_DUPLICATE_S: Final = (0.3, 3.0)
GARBAGE_BYTES: Final = (16, 5000)  # so many that no two are alike
CUT_SHARE: Final = (0.4, 0.9)  # of a trace that is kept: its id stands at the beginning
_ID: Final = b"ResultMetaData.ResultId"
_NO_ID: Final = b"ResultMetaData.Result"
# A hole has one of these at most; the twists are for the others.
_SPOILERS: Final = (Fault.MALFORMED, Fault.POISON, Fault.UNPAIRED)


class Malady(Enum):
    """What is wrong with a malformed part."""

    CUT = "cut"  # the trace ends too early
    BROKEN = "broken"  # the trace is no JSON behind its id
    NO_ID = "no id"  # the result names no hole
    GARBAGE = "garbage"  # the trace is of random bytes


@dataclass(frozen=True, slots=True)
class Posting:
    """One message that is to go out."""

    due_s: float  # after the hole's beginning
    payload: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class Planned:
    """A hole, and what is to go out; `strays` are among the postings and not of the hole."""

    hole: SentHole
    postings: tuple[Posting, ...]
    strays: tuple[Message, ...]


class Twister:
    """Makes planned holes of good ones.

    Args:
        faults: which may happen; those that are not of messages have no part in it.
        rng: equal ones give equal plans, but for the ids within messages.
    """

    def __init__(self, faults: Collection[Fault], rng: Random) -> None:
        self._faults = frozenset(faults)
        self._rng = rng

    def twist(self, good: OutgoingHole) -> Planned:
        """One hole on its way into the chaos."""
        # each hole has random numbers of its own: leaving out one fault changes no other hole
        rng = Random(self._rng.getrandbits(64))
        happens = [f for f, share in SHARES.items() if rng.random() < share and f in self._faults]
        spoiler = next((fault for fault in _SPOILERS if fault in happens), None)
        parts = {_tail(topic): (topic, payload) for topic, payload in good.parts}
        fate, rejected = _spoil(parts, spoiler, rng)
        twists = [f for f in happens if f not in _SPOILERS]
        postings = _parts(good.source, list(parts.values()), rejected, twists, rng)
        if fate in {Fate.SOUND, Fate.POISON}:
            postings += _repeats(postings, twists, rng)
        hole = SentHole(
            good.source,
            good.result_id,
            fate,
            frozenset(twists if spoiler is None else [*twists, spoiler]),
            tuple(posting.message for posting in postings),
        )
        stray = _stray(good, rng) if Fault.STRAY in twists else []
        return Planned(hole, (*postings, *stray), tuple(s.message for s in stray))


def _spoil(
    parts: dict[str, tuple[str, bytes]], spoiler: Fault | None, rng: Random
) -> tuple[Fate, str]:
    """Change the parts by tail; returns the fate, and the tail of the part that is rejected."""
    topic, trace = parts[TRACE]
    match spoiler:
        case Fault.POISON:
            parts[TRACE] = (topic, poisoned(trace, rng.choice(list(Poison))))
            return Fate.POISON, ""
        case Fault.UNPAIRED:
            del parts[rng.choice((RESULT, TRACE))]
            return Fate.UNPAIRED, ""
        case Fault.MALFORMED:
            return _make_ill(parts, rng)
    return Fate.SOUND, ""


def _make_ill(parts: dict[str, tuple[str, bytes]], rng: Random) -> tuple[Fate, str]:
    topic, trace = parts[TRACE]
    match rng.choice(list(Malady)):
        case Malady.CUT:
            kept = int(rng.uniform(*CUT_SHARE) * len(trace))
            parts[TRACE] = (topic, trace[:kept])
            return Fate.UNREADABLE, ""
        case Malady.BROKEN:
            comma = trace.index(b",", len(trace) // 2)
            parts[TRACE] = (topic, trace[:comma] + b";" + trace[comma + 1 :])
            return Fate.UNREADABLE, ""
        case Malady.NO_ID:
            where, result = parts[RESULT]
            parts[RESULT] = (where, result.replace(_ID, _NO_ID))
            return Fate.UNATTRIBUTABLE, RESULT
        case _:
            parts[TRACE] = (topic, _garbage(rng))
            return Fate.UNATTRIBUTABLE, TRACE


def _parts(
    source: str,
    parts: list[tuple[str, bytes]],
    rejected: str,
    twists: Collection[Fault],
    rng: Random,
) -> list[Posting]:
    if Fault.REORDER in twists:
        rng.shuffle(parts)
    due_s = 0.0
    postings = []
    late = rng.randrange(len(parts)) if Fault.SKEW in twists else None
    for number, (topic, payload) in enumerate(parts):
        is_rejected = _tail(topic) == rejected
        message = Message.of(topic, source, payload, is_rejected=is_rejected)
        skew_s = rng.uniform(*SKEW_S) if number == late else 0.0
        postings.append(Posting(due_s + skew_s, payload, message))
        due_s += rng.uniform(0.0, PART_GAP_S)
    return postings


def _repeats(postings: list[Posting], twists: Collection[Fault], rng: Random) -> list[Posting]:
    repeats = []
    for fault, (least_s, most_s) in (
        (Fault.DUPLICATE, (0.0, 0.0)),
        (Fault.LATE_DUPLICATE, LATE_DUPLICATE_S),
    ):
        if fault in twists:
            first = rng.choice(postings)
            later_s = rng.uniform(least_s, most_s)
            m = first.message
            again = Message(m.topic, m.source, m.crc, m.length, is_needed=False)
            repeats.append(Posting(first.due_s + later_s, first.payload, again))
    return repeats


def _stray(good: OutgoingHole, rng: Random) -> list[Posting]:
    topic = rng.choice([t for t, _ in good.parts if _tail(t) in (RESULT, TRACE)])
    name = str(uuid.UUID(int=rng.getrandbits(128)))
    payload = rng.choice(
        (
            _garbage(rng),
            json.dumps({"MessageId": name}).encode(),
            json.dumps({"MessageId": name, "Messages": {"Payload": {}}}).encode()[:-3],
            json.dumps([name]).encode(),
        )
    )
    message = Message.of(topic, good.source, payload, is_rejected=True)
    return [Posting(rng.uniform(0.0, PART_GAP_S), payload, message)]


def _garbage(rng: Random) -> bytes:
    return rng.randbytes(rng.randint(*GARBAGE_BYTES))


def _tail(topic: str) -> str:
    """What follows the tool: RESULT, TRACE or HEADS."""
    tail = topic.split("/", 3)[3]
    assert tail in {RESULT, TRACE, HEADS}
    return tail
