"""The `Vitals`: what the broker's loop hands out for one scrape. Plain data, read by any thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farm.telemetry.histogram import Cumulative


@dataclass(frozen=True, slots=True)
class Vitals:
    """See the module. Counts are those of the broker's life.

    Attributes:
        snapshot: what `farm stats` shows.
        kinds: of message, in the adapter's order.
        messages: how many, by kind and what became of them, see `Correlator.tally`.
        stages: latencies by stage.
        commits: times of the journal's commits; None where there is none.
        ready: how many of the workers that are expected are READY.
        exits: of workers of this machine, by `farm.metrics.endings.Ending`.
        credit: messages with jobs that may be under way unclaimed.
        is_dispatch_paused: whether the model is suspected.
        inflight: publications handed to MQTT and not confirmed.
        oldest_answer_s: how long the oldest unconfirmed publication waits.
    """

    snapshot: Mapping[str, Any]
    kinds: tuple[str, ...]
    messages: Mapping[tuple[str, str], int]
    stages: Mapping[str, Cumulative]
    commits: Cumulative | None
    ready: int
    exits: Mapping[str, int]
    credit: int
    is_dispatch_paused: bool
    inflight: int
    oldest_answer_s: float
