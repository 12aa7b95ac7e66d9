"""The `Story`: what happened to one hole so far, with times, for `farm why`.

Times inside a life of the broker are monotonic, so that a clock that is set does not bend them; the
first one is given in UTC as well. Written to the journal with the hole's answer.
"""

from __future__ import annotations

from typing import Any

# A hole that is bounced for minutes must not grow without bound: the middle is left out.
MAX_EVENTS = 100


class Story:
    """The events of one hole, oldest first; what a former life of the broker told stays in front.

    Args:
        utc_s: the time of the first event, seconds since 1970.
        now_s: the same moment on the monotonic clock.
        before: what `told` gave in a former life.
    """

    __slots__ = ("_before", "_events", "_left_out", "_start_s", "_utc_s")

    def __init__(self, utc_s: float, now_s: float, before: list[Any] | None = None) -> None:
        self._utc_s = utc_s
        self._start_s = now_s
        self._before = before or []
        self._events: list[list[Any]] = []  # each never changed
        self._left_out = 0

    def note(self, now_s: float, what: str, detail: str = "") -> None:
        """Something happened; `what` is a constant name, `detail` says who or why."""
        if len(self._events) >= MAX_EVENTS:
            self._left_out += 1
            self._events.pop(MAX_EVENTS // 2)
        self._events.append([now_s - self._start_s, what, detail])

    def told(self) -> list[Any]:
        """Plain data: a list of lives, each [utc_s, left_out, [[seconds, what, detail], …]]."""
        return [*self._before, [self._utc_s, self._left_out, self._events.copy()]]
