"""The `Members`: what is known of each partition of a group, from the marks that they leave.

A mark whose beat goes on is of one that lives; a retained one alone may be of one long gone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

SILENT_S = 10.0  # five marks that did not come
RIVAL_BEATS = 2  # of another token under our index; one may still have been on its way


@dataclass(slots=True)
class Member:
    """The newest mark of a partition."""

    token: str
    beat: int
    phase: str
    count: int
    since_s: float  # UTC of its start
    told: dict[str, Any]
    live_s: float | None = None  # monotonic: when its beat went on last

    def disagrees(self, count: int) -> bool:
        """Whether it serves as one of another number."""
        return self.phase == "in force" and self.count != count


class Members:
    """See the module. `index` and `token` are our own, `since_s` our start (UTC)."""

    def __init__(self, index: int, token: str, since_s: float, now_s: float) -> None:
        self._index, self._token, self._since_s = index, token, since_s
        self._found: dict[int, Member] = {}
        self._listens_since_s = now_s
        self._rival: Member | None = None
        self._rival_beats = 0

    def listen_from(self, now_s: float) -> None:
        """A connection begins: silence before it means nothing."""
        self._listens_since_s = now_s
        self._rival, self._rival_beats = None, 0

    def heard(self, index: int, told: dict[str, Any], now_s: float) -> bool:
        """A mark came; True: it is our own."""
        try:
            mark = Member(
                *(str(told["token"]), int(told["beat"]), str(told["phase"]), int(told["count"])),
                *(float(told["since_s"]), told),
            )
        except (KeyError, TypeError, ValueError):
            return False
        if index == self._index:
            if mark.token == self._token:
                return True
            self._note_rival(mark)
            return False
        before = self._found.get(index)
        if before is not None and before.token == mark.token:
            mark.live_s = now_s if mark.beat != before.beat else before.live_s
        self._found[index] = mark
        return False

    def _note_rival(self, mark: Member) -> None:
        before = self._rival
        if before is None or before.token != mark.token:
            self._rival, self._rival_beats = mark, 0  # a retained one of our former life is one
        elif mark.beat != before.beat:
            self._rival, self._rival_beats = mark, self._rival_beats + 1

    @property
    def has_younger_self(self) -> bool:
        """Whether another partition with our index lives, and has lived for longer."""
        rival = self._rival
        if rival is None or self._rival_beats < RIVAL_BEATS:
            return False
        return (rival.since_s, rival.token) < (self._since_s, self._token)

    def counts(self, phase: str) -> set[int]:
        """How many partitions there are, as those in a phase say."""
        return {member.count for member in self._found.values() if member.phase == phase}

    def has(self, phase: str) -> bool:
        """Whether one is in a phase."""
        return any(member.phase == phase for member in self._found.values())

    def silent_s(self, now_s: float) -> dict[str, float]:
        """For how long nothing was heard of each, by index."""
        return {
            str(index): now_s - max(member.live_s or 0.0, self._listens_since_s)
            for index, member in sorted(self._found.items())
        }

    def problems(self, count: int, now_s: float) -> list[str]:
        """Which partitions are missing, or of another mind, as sentences."""
        found = []
        for index in range(count):
            if index == self._index:
                continue
            member = self._found.get(index)
            live_s = member.live_s if member is not None else None
            silent_s = now_s - max(live_s or 0.0, self._listens_since_s)
            if silent_s > SILENT_S:
                found.append(f"partition {index} of {count} is silent for {silent_s:.0f} s")
            elif member is not None and live_s and member.disagrees(count):
                found.append(f"partition {index} says that there are {member.count}, not {count}")
        if self._rival_beats >= RIVAL_BEATS:
            found.append(f"another partition runs with index {self._index}, too")
        return found


def as_dict(text: str | bytes | None) -> dict[str, Any]:
    """A JSON object; {} where it is none."""
    try:
        found = json.loads(text or b"{}")
    except ValueError:  # which is what is raised for text that is no UTF-8, too
        return {}
    return found if isinstance(found, dict) else {}
