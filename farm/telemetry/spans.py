"""Which holes are told to a collector, and how the story of one becomes a tree of spans.

Decisions without I/O: a hole's end goes in, plain spans come out; `farm.telemetry.otlp` carries
them away. Nothing is measured for it: the times are those of the story that the hole has anyway.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from farm.adapter import Terminal

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator

    from farm.adapter import Finished

_UNLUCKY: Final = (Terminal.DEAD, Terminal.SHED)
# What ends an attempt to have a hole computed without a result.
_FAILURES: Final = ("bounced", "unclaimed", "worker lost", "held back")
_BEGINNINGS: Final = ("paired", "recovered", "retried")  # from here on it waits for a worker


@dataclass(slots=True)
class EndedHole:
    """All that is told of a hole. Times are seconds since 1970."""

    hole_id: int
    source: str  # toolbox/tool
    part_id: str
    terminal: str
    reason: str
    model_version: str
    story: list[Any]  # as `farm.broker.story.Story.told` gives it
    answered_at_s: float
    ended_at_s: float = 0.0


@dataclass(slots=True)
class Span:
    """A stretch of time with a name. Times are seconds since 1970."""

    name: str
    start_s: float
    end_s: float
    attributes: dict[str, str | int] = field(default_factory=dict)
    events: list[tuple[float, str]] = field(default_factory=list)
    failure: str = ""
    children: list[Span] = field(default_factory=list)


class HoleSpans:
    """Chooses the holes that are told, and keeps what is to be said of each until it ends: also of
    those that are not chosen, since MQTT may refuse their answers, and then they are dead letters.

    Args:
        put: takes a hole to be told; whether there was room.
        sample_ratio: of the holes that are well.
        most: holes that may be between answer and confirmation, of the chosen and of the others.
        counts: where traces_dropped is counted.
        at: the time since 1970 of a monotonic one.
        pick: a random number from 0 to 1, for each hole.
    """

    def __init__(
        self,
        put: Callable[[EndedHole], bool],
        *,
        sample_ratio: float,
        most: int,
        counts: Counter[str],
        at: Callable[[float], float],
        pick: Callable[[], float] = random.random,
    ) -> None:
        self._put = put
        self._sample_ratio = sample_ratio
        self._most = most
        self._counts = counts
        self._at = at
        self._pick = pick
        self._chosen: dict[int, tuple[Finished, list[Any], float]] = {}
        self._others: dict[int, tuple[Finished, list[Any], float]] = {}

    def answered(
        self, hole_id: int, finished: Finished, terminal: Terminal, story: list[Any], now_s: float
    ) -> None:
        """The answer of a hole is known, and on its way."""
        is_chosen = terminal in _UNLUCKY or self._pick() < self._sample_ratio
        kept = self._chosen if is_chosen else self._others
        if len(kept) < self._most:
            kept[hole_id] = (finished, story, now_s)
        elif is_chosen:
            self._counts["traces_dropped"] += 1

    def ended(self, hole_id: int, terminal: Terminal, now_s: float, refusal: str = "") -> None:
        """MQTT has confirmed its answer, or refused it for good and said why."""
        answer = self._others.pop(hole_id, None)
        if answer is not None and terminal not in _UNLUCKY:
            return
        answer = answer or self._chosen.pop(hole_id, None)
        if answer is None:  # no room, or answered in a former life
            if refusal:
                self._counts["traces_dropped"] += 1
            return
        finished, story, answered_s = answer
        hole = EndedHole(
            hole_id=hole_id,
            source=finished.source,
            part_id=finished.part_id,
            terminal=terminal.value,
            reason=finished.reason or refusal,
            model_version=finished.model_version,
            story=story,
            answered_at_s=self._at(answered_s),
            ended_at_s=self._at(now_s),
        )
        if not self._put(hole):
            self._counts["traces_dropped"] += 1


def tree_of(hole: EndedHole) -> Span:
    """The spans of a hole: the whole, and in it pairing, waiting, each attempt, answer, publish."""
    events = list(_events(hole.story))
    start_s = events[0][0] if events else hole.answered_at_s
    root = Span("hole", start_s, max(hole.ended_at_s, start_s))
    root.children = [*_stages(events, start_s)]
    root.children.append(Span("publish", hole.answered_at_s, root.end_s))
    if hole.terminal in (each.value for each in _UNLUCKY):
        root.failure = hole.reason or hole.terminal
    return root


def _events(story: list[Any]) -> Iterator[tuple[float, str, str]]:
    """What happened when, through all lives of the broker process."""
    for began_s, _, events in story:
        for after_s, what, detail in events:
            yield began_s + after_s, what, detail


def _stages(events: list[tuple[float, str, str]], start_s: float) -> Iterator[Span]:
    since_s = start_s  # since when it waits for what comes next
    attempt: Span | None = None
    for at_s, what, detail in events:
        if what in ("paired", "given up"):
            yield Span("pair", since_s, at_s, failure="" if what == "paired" else what)
            since_s = at_s
        elif what == "dispatched":
            yield Span("wait", since_s, at_s)
            attempt = Span("compute", at_s, at_s)
        elif what == "answered":
            yield Span("answer", since_s, at_s)
        elif attempt is None:
            if what in _BEGINNINGS:
                since_s = at_s
        elif what == "computed" or what in _FAILURES or what in _BEGINNINGS:
            attempt.end_s = at_s
            attempt.events.append((at_s, f"{what} {detail}".rstrip()))
            if what != "computed":
                attempt.failure = f"{what} {detail}".rstrip()
            yield attempt
            since_s, attempt = at_s, None
        else:
            attempt.events.append((at_s, f"{what} {detail}".rstrip()))
