"""The `Feed`: what all browsers are told once a second, made once for all of them.

Keeps five minutes of rates. Owns no clock and no socket: it takes a snapshot and a time. A browser
that reads slowly gets the newest next, and nothing is queued for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import orjson

from farm import log
from farm.adapter import Terminal
from farm.printable import printable_data

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

HISTORY_S: Final = 300.0
MAX_SAMPLES: Final = 400
LEAST_SPAN_S: Final = 0.5
RETRY_MS: Final = 2000  # after which a browser connects again
_KEPT: Final = (
    *("state", "problems", "up_s", "instance", "farm_version", "throughput", "mqtt", "intake"),
    *("jobs", "holes", "dead_letters", "journal", "latency", "workers_expected", "scaling"),
)
_NEEDED: Final = frozenset(_KEPT) - {"intake", "scaling"}  # else a browser can't draw it
_OF_A_WORKER: Final = (
    *("name", "host", "pid", "state", "job_age_s", "jobs_done", "rate_hz", "rss_bytes", "up_s"),
    *("silent_s", "model_version", "model_hash"),
)


class Rates:
    """Holes per second that arrive and are answered, from the counters of two snapshots."""

    def __init__(self) -> None:
        self._last: tuple[float, int, int] | None = None
        self.samples: deque[list[float]] = deque(maxlen=MAX_SAMPLES)  # [utc_s, in, out, backlog]

    def take(self, snapshot: Mapping[str, Any], utc_s: float) -> None:
        """One more."""
        holes = snapshot["holes"]
        arrived, answered = holes["arrived"], sum(holes[terminal.value] for terminal in Terminal)
        if self._last is not None and 0 <= utc_s - self._last[0] < LEAST_SPAN_S:
            return  # of so short a time a rate says nothing
        last, self._last = self._last, (utc_s, arrived, answered)
        if last is None or utc_s <= last[0] or arrived < last[1] or answered < last[2]:
            return  # the first, or the broker was started anew
        span_s = utc_s - last[0]
        rates = [(arrived - last[1]) / span_s, (answered - last[2]) / span_s]
        backlog = snapshot["throughput"]["backlog"]
        self.samples.append([round(utc_s, 1), *(round(rate, 2) for rate in rates), backlog])
        while self.samples[0][0] < utc_s - HISTORY_S:
            self.samples.popleft()

    def lost(self) -> None:
        """Nobody answered: what comes next is no rate of this second."""
        self._last = None


class Feed:
    """See the module. All of it runs in the loop's thread.

    Args:
        max_viewers: browsers at once.
        journal: tells how it is with the index, for each event.
    """

    def __init__(self, max_viewers: int, journal: Callable[[], dict[str, Any]]) -> None:
        self._max_viewers = max_viewers
        self._journal = journal
        self._changed = asyncio.Condition()
        self._event = b""
        self._number = 0
        self.viewers = 0
        self.came = asyncio.Event()  # set while somebody looks on
        self.rates = Rates()
        self.snapshot: dict[str, Any] | None = None  # the last there was
        self.answered_s: float | None = None  # when that was, UTC
        self.is_silent = True
        self.problem = ""  # why it is, where that is known
        self._limited = log.Limited()
        self.is_closing = False

    @property
    def is_full(self) -> bool:
        """Whether one more browser must wait."""
        return self.viewers >= self._max_viewers

    def joined(self) -> None:
        """One more browser looks on."""
        self.viewers += 1
        self.came.set()

    def left(self) -> None:
        """One has gone."""
        self.viewers -= 1
        if not self.viewers:
            self.came.clear()

    def take(self, snapshot: dict[str, Any] | None, utc_s: float, problem: str = "") -> None:
        """What the broker said, or that it said nothing; `publish` tells the browsers.

        Args:
            snapshot: what it said.
            utc_s: when.
            problem: why there is no snapshot, where that is known.
        """
        short = None
        if snapshot is not None:
            try:
                short = _short(snapshot)
                self.rates.take(snapshot, utc_s)
            # of another version: what else there is, as the journal's, must be told nevertheless
            except (LookupError, TypeError, AttributeError, ValueError) as error:
                short = None
                problem = f"what the farm says of itself is not as this page knows it ({error!r})"
                self._limited.warning("snapshot_not_understood", reason=repr(error))
        self.is_silent, self.problem = short is None, problem
        if short is None:
            self.rates.lost()
            return
        self.answered_s = utc_s
        self.snapshot = short

    async def publish(self, utc_s: float) -> None:
        """Tell all."""
        data = {
            "now_s": utc_s,
            "is_silent": self.is_silent,
            "answered_s": self.answered_s,
            "problem": self.problem,
            "farm": self.snapshot,
            "sample": self.rates.samples[-1] if self.rates.samples else None,
            "journal": self._journal(),
        }
        self._event = _event("now", data)
        self._number += 1
        async with self._changed:
            self._changed.notify_all()

    async def close(self) -> None:
        """End all streams."""
        self.is_closing = True
        async with self._changed:
            self._changed.notify_all()

    async def stream(self) -> AsyncIterator[bytes]:
        """What one browser is sent, until the page is closed."""
        yield f"retry: {RETRY_MS}\n\n".encode()
        yield _event("history", list(self.rates.samples))
        seen = 0
        while not self.is_closing:
            if self._number != seen:
                seen = self._number
                yield self._event
                continue
            async with self._changed:
                if self._number == seen and not self.is_closing:
                    await self._changed.wait()


def _short(snapshot: dict[str, Any]) -> dict[str, Any]:
    """What the page shows of it; fit for a screen."""
    if missing := sorted(_NEEDED.difference(snapshot)):
        raise LookupError(f"without {', '.join(missing)}")
    kept = {name: snapshot[name] for name in _KEPT if name in snapshot}
    rows = [{name: row.get(name) for name in _OF_A_WORKER} for row in snapshot["workers"]]
    made: dict[str, Any] = printable_data({**kept, "workers": rows})
    return made


def _event(name: str, data: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"
