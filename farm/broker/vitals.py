"""The broker's `Vitals`: what is told to monitoring beyond the snapshot, read off the flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm.journal.journal import Journal
from farm.metrics.vitals import Vitals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farm.broker.desk import Desk
    from farm.broker.parts import Parts


def take(parts: Parts, desk: Desk, snapshot: Mapping[str, Any], now_s: float) -> Vitals:
    """The vitals at a time. For the loop alone; it takes less than a millisecond."""
    flow, journal = parts.flow, parts.journal
    return Vitals(
        snapshot=snapshot,
        kinds=flow.kinds,
        messages=dict(flow.correlator.tally),
        stages={stage: histogram.cumulative() for stage, histogram in flow.stages.items()},
        commits=journal.commit_times.cumulative() if isinstance(journal, Journal) else None,
        ready=desk.ready_workers,
        exits=dict(desk.exits),
        credit=flow.dispatcher.credit,
        is_dispatch_paused=bool(flow.dispatcher.breaker.reason),
        inflight=flow.outbox.inflight,
        oldest_answer_s=flow.outbox.oldest_s(now_s),
    )
