"""The `Tools`: what came from each tool and how it ended, for `farm stats`.

A decision without I/O, and bounded: beyond twice `KEPT` tools the quietest are folded into one row,
"others". So a flood of made-up names pushes no real tool out. A tool is a source of the adapter's.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from farm.adapter import Terminal
from farm.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

KEPT = 1024  # about 0.5 MB; a site has tens to hundreds of tools
SHOWN = 40  # of the loudest, and as many of the worst: one snapshot is some ten kilobytes
TROUBLE_WEIGHT = 10  # of one trouble against one message, where the quietest are folded
LOW_QUALITY = 0.5  # below it the model itself holds a wrong keypoint for the likelier
REASON_CHARS, SOURCE_CHARS = 160, 200  # as shown; MQTT allows topics of 64 kB
COUNTED = ("negative_depths", "negative_runs")  # of the answerer's counters, those kept for a tool


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
    ends: dict[Terminal, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    heard_s: float = 0.0
    reason: str = ""  # why the last one went wrong
    reason_s: float = 0.0
    # Messages and ended holes at the start of this period and of the one before.
    marks: tuple[int, int] = (0, 0)
    marks_before: tuple[int, int] = (0, 0)

    @property
    def holes(self) -> int:
        """How many holes ended."""
        return sum(self.ends.values())

    @property
    def troubles(self) -> int:
        """What somebody should look at: each hole once, and messages of none."""
        return self.ends.get(Terminal.DEAD, 0) + self.rejected + self.doubtful

    def absorb(self, other: Tally) -> None:
        """Add another's counts."""
        self.parts += other.parts
        self.rejected += other.rejected
        self.unpaired += other.unpaired
        self.low_quality += other.low_quality
        self.doubtful += other.doubtful
        self.qualities += other.qualities
        self.quality_sum += other.quality_sum
        for terminal, count in other.ends.items():
            self.ends[terminal] = self.ends.get(terminal, 0) + count
        for name, count in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        self.marks = _sum(self.marks, other.marks)
        self.marks_before = _sum(self.marks_before, other.marks_before)
        self.heard_s = max(self.heard_s, other.heard_s)
        if other.reason_s > self.reason_s:
            self.reason, self.reason_s = other.reason, other.reason_s


def _sum(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]


class Tools:
    """See the module. Times are monotonic seconds."""

    def __init__(self, now_s: float, *, kept: int = KEPT) -> None:
        self._kept = kept
        self._tallies: dict[str, Tally] = {}
        self._others = Tally()
        self._folded = 0
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
            return tally.parts + TROUBLE_WEIGHT * tally.troubles

        for source in sorted(self._tallies, key=weight)[: len(self._tallies) - self._kept]:
            self._others.absorb(self._tallies.pop(source))
            self._folded += 1

    # ---- what is shown --------------------------------------------------------------------------

    def snapshot(self, now_s: float) -> dict[str, Any]:
        """The loudest and the worst, each row once, loudest first."""
        tallies = self._tallies
        loudest = heapq.nlargest(SHOWN, tallies, key=lambda source: tallies[source].parts)
        troubled = {source: n for source in tallies if (n := tallies[source].troubles)}
        worst = heapq.nlargest(SHOWN, troubled, key=troubled.__getitem__)
        shown = list(dict.fromkeys((*loudest, *worst)))
        rest = Tally()
        rest.absorb(self._others)
        for source in tallies.keys() - set(shown):
            rest.absorb(tallies[source])
        return {
            "known": len(tallies) + self._folded,
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
            **{terminal.value: tally.ends.get(terminal, 0) for terminal in Terminal},
            "unpaired": tally.unpaired,
            "rejected": tally.rejected,
            **{name: tally.counts.get(name, 0) for name in COUNTED},
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
            tally.counts[name] = tally.counts.get(name, 0) + 1
            is_doubtful = True
    tally.doubtful += is_doubtful
