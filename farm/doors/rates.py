"""The `Rates`: how much one key may say in a second, and who is kept out for saying more.

A decision without I/O. Each key has a bucket for its requests and one for its results; both fill at
the configured rate and hold `BURST_S` of it. What finds its bucket empty is refused before it is
decoded. Who goes on until so much was refused as a bucket holds is to be kept out for a while.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections import Counter

    from farm.config.attach import AttachConfig

BURST_S: Final = 10.0  # a farm that was away is told all at once what it has missed
MAX_BUCKETS: Final = 20_000  # two of each key that a keyring may hold

REQUESTS: Final = "requests_hz"  # as the knobs are called
RESULTS: Final = "results_hz"


@dataclass(slots=True)
class _Bucket:
    left: float
    at_s: float
    refused: float = 0.0  # since it was full the last time


class Rates:
    """See the module. Times are monotonic seconds.

    Args:
        config: the rates.
        counts: raised here: rate_limited.
    """

    def __init__(self, config: AttachConfig, counts: Counter[str]) -> None:
        self._most_hz = {REQUESTS: config.requests_hz, RESULTS: config.results_hz}
        self._counts = counts
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        self._offenders: dict[str, str] = {}
        self._keep_out_s = config.keep_out_s
        self._out_until_s: dict[str, float] = {}  # by key

    def fault(self, peer: str, what: str, messages: int, now_s: float) -> str:
        """Why so many messages of a key are too many now, as a sentence; "" where they are not.

        Args:
            peer: the name of the key; "": from this machine, which may say what it likes.
            what: REQUESTS or RESULTS.
            messages: how many have come together.
            now_s: the time.
        """
        if not peer:
            return ""
        if self._out_until_s and self._out_until_s.get(peer, 0.0) > now_s:
            # what it had sent before its connections were closed still comes in
            self._counts["rate_limited"] += 1
            return f"the key {peer} is kept out for a while (attach.keep_out_s)"
        most_hz = self._most_hz[what]
        full = most_hz * BURST_S
        bucket = self._buckets.get((peer, what)) or self._new(peer, what, full, now_s)
        bucket.left = min(full, bucket.left + (now_s - bucket.at_s) * most_hz)
        bucket.at_s = now_s
        if bucket.left >= full:
            bucket.refused = 0.0
        if messages <= bucket.left:
            bucket.left -= messages
            return ""
        self._counts["rate_limited"] += 1
        bucket.refused += messages
        if bucket.refused >= full:
            self._offenders[peer] = f"it went on beyond attach.{what} ({most_hz:g} a second)"
            bucket.refused = 0.0
            self._out_until_s = {k: s for k, s in self._out_until_s.items() if s > now_s}
            self._out_until_s[peer] = now_s + self._keep_out_s
        return (
            f"the key {peer} says more than attach.{what} allows ({most_hz:g} a second): give its "
            "workers keys of their own, or raise it"
        )

    def give_back(self, peer: str, what: str, messages: int) -> None:
        """So many messages of a key that came are not its doing, but ours: they cost it nothing."""
        if bucket := self._buckets.get((peer, what)):
            bucket.left = min(self._most_hz[what] * BURST_S, bucket.left + messages)

    def take_offenders(self) -> dict[str, str]:
        """The keys to be kept out from now on, each once, with the cause in words."""
        taken, self._offenders = self._offenders, {}
        return taken

    def _new(self, peer: str, what: str, full: float, now_s: float) -> _Bucket:
        if len(self._buckets) >= MAX_BUCKETS:
            self._buckets = {
                (name, kind): bucket
                for (name, kind), bucket in self._buckets.items()
                if now_s - bucket.at_s < BURST_S
            }
        bucket = self._buckets[peer, what] = _Bucket(full, now_s)
        return bucket
