"""The `Tools`: what came from each tool and how it ended, for `farm stats`.

A decision without I/O, and bounded: beyond twice `KEPT` tools the quietest are folded into one row,
"others". Rubbish and lone messages weigh no more than any message: made-up names that send these
push out no tool that has sent more than each of them. A tool is a source of the adapter's.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from farm.adapter import Terminal
from farm.printable import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

KEPT = 1024  # about 0.5 MB; a site has tens to hundreds of tools
SHOWN = 40  # of the loudest, and as many of the worst: one snapshot is some ten kilobytes
TROUBLE_WEIGHT = 10  # of a whole hole in trouble against one message, where the quietest are folded
LOW_QUALITY = 0.5  # below it the model itself holds a wrong keypoint for the likelier
REASON_CHARS, SOURCE_CHARS = 160, 200  # as shown; MQTT allows topics of 64 kB
COUNTED = ("negative_depths", "negative_runs")  # of the answerer's counters, those kept for a tool
PLACES = {terminal: place for place, terminal in enumerate(Terminal)}
DEAD = PLACES[Terminal.DEAD]


@dataclass(slots=True)
class Tally:
    """The counts of one tool since it was taken up."""

    parts: int = 0
    rejected: int = 0  # messages that belong to no hole
    unpaired: int = 0  # holes that never got all of their messages; dead as well
    low_quality: int = 0
    doubtful: int = 0  # answers of negative depth or low quality, each once
    qualities: int = 0
    quality_sum: float = 0.0
    ends: list[int] = field(default_factory=lambda: [0] * len(Terminal))  # in the order of PLACES
    counts: list[int] = field(default_factory=lambda: [0] * len(COUNTED))
    heard_s: float = 0.0
    reason: str = ""  # why the last one went wrong
    reason_s: float = 0.0
    # Messages and ended holes at the start of this period and of the one before.
    marks: tuple[int, int] = (0, 0)
    marks_before: tuple[int, int] = (0, 0)

    @property
    def holes(self) -> int:
        """How many holes ended."""
        return sum(self.ends)

    @property
    def troubles(self) -> int:
        """What somebody should look at: each hole once, and messages of none."""
        return self.ends[DEAD] + self.rejected + self.doubtful


def merged(tallies: Collection[Tally]) -> Tally:
    """The counts of many as one. By columns, since there may be two thousand."""
    if not tallies:
        return Tally()
    last = max(tallies, key=_last_reason)
    return Tally(
        parts=sum([t.parts for t in tallies]),
        rejected=sum([t.rejected for t in tallies]),
        unpaired=sum([t.unpaired for t in tallies]),
        low_quality=sum([t.low_quality for t in tallies]),
        doubtful=sum([t.doubtful for t in tallies]),
        qualities=sum([t.qualities for t in tallies]),
        quality_sum=sum([t.quality_sum for t in tallies]),
        ends=list(map(sum, zip(*[t.ends for t in tallies], strict=True))),
        counts=list(map(sum, zip(*[t.counts for t in tallies], strict=True))),
        heard_s=max([t.heard_s for t in tallies]),
        reason=last.reason,
        reason_s=last.reason_s,
        marks=_sum([t.marks for t in tallies]),
        marks_before=_sum([t.marks_before for t in tallies]),
    )


def _last_reason(tally: Tally) -> float:
    return tally.reason_s


def _sum(pairs: list[tuple[int, int]]) -> tuple[int, int]:
    parts, holes = zip(*pairs, strict=True)
    return sum(parts), sum(holes)


class Tools:
    """See the module. Times are monotonic seconds."""

    def __init__(self, now_s: float, *, kept: int = KEPT) -> None:
        self._kept = kept
        self._tallies: dict[str, Tally] = {}
        self._others = Tally()
        self._folded = 0  # rows; a tool that came back was a row each time
        self._mark_s = self._mark_before_s = now_s

    def __len__(self) -> int:
        """How many tools have a row of their own."""
        return len(self._tallies)

    # ---- what happens: every hole comes here ---------------------------------------------------

    def part(self, source: str, now_s: float) -> None:
        """A message came."""
        tally = self._tallies.get(source) or self._new(source)
        tally.parts += 1
        tally.heard_s = now_s

    def rejected(self, source: str, reason: str, now_s: float) -> None:
        """A message belongs to no hole."""
        tally = self.of(source)
        tally.rejected += 1
        tally.reason, tally.reason_s = reason, now_s

    def of(self, source: str) -> Tally:
        """The counts of a tool, to be raised."""
        return self._tallies.get(source) or self._new(source)

    def rotate(self, now_s: float) -> None:
        """Begin a new period: rates are those of this and the last one."""
        self._mark_before_s, self._mark_s = self._mark_s, now_s
        for tally in (*self._tallies.values(), self._others):
            tally.marks_before, tally.marks = tally.marks, (tally.parts, tally.holes)

    def _new(self, source: str) -> Tally:
        if len(self._tallies) >= 2 * self._kept:
            self._fold()
        self._tallies[source] = tally = Tally()
        return tally

    def _fold(self) -> None:
        """Keep the half that matters most; the sort is spread over as many new names."""

        def weight(source: str) -> int:
            tally = self._tallies[source]
            in_whole_holes = tally.troubles - tally.rejected - tally.unpaired
            return tally.parts + TROUBLE_WEIGHT * in_whole_holes

        quietest = sorted(self._tallies, key=weight)[: len(self._tallies) - self._kept]
        self._others = merged([self._others, *map(self._tallies.pop, quietest)])
        self._folded += len(quietest)

    # ---- what is shown --------------------------------------------------------------------------

    def snapshot(self, now_s: float) -> dict[str, Any]:
        """The loudest and the worst, each row once, loudest first."""
        tallies = self._tallies
        loudest = heapq.nlargest(SHOWN, tallies, key=lambda source: tallies[source].parts)
        troubled = {source: n for source in tallies if (n := tallies[source].troubles)}
        worst = heapq.nlargest(SHOWN, troubled, key=troubled.__getitem__)
        shown = list(dict.fromkeys((*loudest, *worst)))
        rest = merged([self._others, *(tallies[s] for s in tallies.keys() - set(shown))])
        return {
            "known": len(tallies) + self._folded,
            "folded": self._folded,
            "shown": len(shown),
            "window_s": now_s - self._mark_before_s,
            "rows": [self._row(source, tallies[source], now_s) for source in shown],
            "others": self._row("", rest, now_s),
        }

    def _row(self, source: str, tally: Tally, now_s: float) -> dict[str, Any]:
        window_s = max(now_s - self._mark_before_s, 1.0)
        parts_before, holes_before = tally.marks_before
        return {
            "source": printable(source, SOURCE_CHARS),
            "parts": tally.parts,
            "parts_hz": (tally.parts - parts_before) / window_s,
            "holes": tally.holes,
            "holes_hz": (tally.holes - holes_before) / window_s,
            **{terminal.value: tally.ends[place] for terminal, place in PLACES.items()},
            "unpaired": tally.unpaired,
            "rejected": tally.rejected,
            **dict(zip(COUNTED, tally.counts, strict=True)),
            "low_quality": tally.low_quality,
            "quality_mean": tally.quality_sum / tally.qualities if tally.qualities else None,
            "troubles": tally.troubles,
            "silent_s": now_s - tally.heard_s if tally.heard_s else None,
            "reason": printable(tally.reason, REASON_CHARS),
            "reason_age_s": now_s - tally.reason_s if tally.reason else None,
        }


def judged(tally: Tally, quality: float | None, names: Sequence[str]) -> None:
    """An answer's quality, and which of the answerer's counters it raises."""
    is_doubtful = False
    if quality is not None:
        tally.qualities += 1
        tally.quality_sum += quality
        is_doubtful = quality < LOW_QUALITY
        tally.low_quality += is_doubtful
    for name in names:
        if name in COUNTED:
            tally.counts[COUNTED.index(name)] += 1
            is_doubtful = True
    tally.doubtful += is_doubtful
