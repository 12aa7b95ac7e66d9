"""The account of a load: which holes are out, which were answered, which twice. Knows no sockets.

Holes are numbered from 0 in the order in which they were published.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

MANY: Final = 255  # so many answers are as bad as more
NEVER_S: Final = 0.0  # monotonic time is far beyond it


@dataclass(frozen=True, slots=True)
class Span:
    """The measured time: monotonic, from and to."""

    from_s: float
    to_s: float

    @property
    def length_s(self) -> float:
        """In seconds."""
        return self.to_s - self.from_s


@dataclass(slots=True)
class Book:
    """Keeps the account.

    Attributes:
        sent_s: when each hole's last message was published (monotonic).
        depth_s: when its depths came first; 0 for never.
        done_s: when both its answers had come; 0 for never.
        complete: holes with both answers.
        errors: holes whose answer is a reason, by the reason.
        strangers: answers to holes that nobody published.
    """

    sent_s: array[float] = field(default_factory=lambda: array("d"))
    depth_s: array[float] = field(default_factory=lambda: array("d"))
    done_s: array[float] = field(default_factory=lambda: array("d"))
    complete: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    strangers: int = 0
    _keypoints: bytearray = field(default_factory=bytearray)
    _depths: bytearray = field(default_factory=bytearray)

    @property
    def issued(self) -> int:
        """Holes published; the number of the next one."""
        return len(self.sent_s)

    @property
    def in_flight(self) -> int:
        """Holes published and not yet answered."""
        return len(self.sent_s) - self.complete

    def issue(self, now_s: float) -> int:
        """Publish a hole; returns its number."""
        number = len(self.sent_s)
        self.sent_s.append(now_s)
        self.depth_s.append(NEVER_S)
        self.done_s.append(NEVER_S)
        self._keypoints.append(0)
        self._depths.append(0)
        return number

    def answer(self, number: int, now_s: float, *, is_depth: bool) -> bool:
        """An answer came: the depths, or else the keypoints.

        Returns:
            Whether it completes its hole.
        """
        if not 0 <= number < len(self.sent_s):
            self.strangers += 1
            return False
        counts, others = self._depths, self._keypoints
        if not is_depth:
            counts, others = others, counts
        count = counts[number]
        counts[number] = min(count + 1, MANY)
        if count:
            return False
        if is_depth:
            self.depth_s[number] = now_s
        if not others[number]:
            return False
        self.done_s[number] = now_s
        self.complete += 1
        return True

    def unanswered(self) -> list[int]:
        """Holes that lack an answer, or both."""
        return [number for number, done_s in enumerate(self.done_s) if not done_s]

    def repeated(self) -> list[int]:
        """Holes with an answer that came more than once."""
        pairs = zip(self._keypoints, self._depths, strict=True)
        return [number for number, pair in enumerate(pairs) if max(pair) > 1]

    def delays_s(self, span: Span) -> list[float]:
        """From the last message published to the depths received, of holes published in a time."""
        pairs = zip(self.sent_s, self.depth_s, strict=True)
        return [d - s for s, d in pairs if d and span.from_s <= s < span.to_s]

    def done_in(self, span: Span) -> int:
        """Holes that were completed in a time."""
        return sum(span.from_s <= done_s < span.to_s for done_s in self.done_s)

    def timeline(self, span: Span, step_s: float) -> list[int]:
        """Holes completed in each step of a time; what is left at its end is no step."""
        counts = [0] * int(span.length_s / step_s + 1e-9)
        for done_s in self.done_s:
            place = int((done_s - span.from_s) // step_s)
            if done_s and 0 <= place < len(counts):
                counts[place] += 1
        return counts
