"""What the broker does from time to time: here, with those it cuts off."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from fakes import payload
from test_desk import Bench

from farm import wire
from farm.broker.breaker import BreakerState
from farm.broker.upkeep import Upkeep
from farm.config import Config


class PlayedDoors:
    """Somebody takes the key away."""

    def __init__(self, revoked: list[str]) -> None:
        self._revoked = revoked

    def tend(self, _now_s: float) -> list[str]:
        return self._revoked

    def keep_out(self, name: str, seconds: float, now_s: float) -> None:
        """Nobody comes in here."""


class PlayedRates:
    """Somebody said too much."""

    def __init__(self, offenders: dict[str, str]) -> None:
        self._offenders = offenders

    def take_offenders(self) -> dict[str, str]:
        return self._offenders


@pytest.mark.parametrize("device", ["", "cuda:0"])
@pytest.mark.parametrize(
    ("revoked", "offenders"), [(["line-7"], {}), ([], {"line-7": "it went on"})]
)
def test_whom_we_cut_off_costs_no_hole_an_attempt_and_the_model_no_trust(
    revoked: list[str], offenders: dict[str, str], device: str
) -> None:
    """A key is revoked, and some of what its workers computed become dead letters by it; or the
    farm stops for all, since so many different holes have "ended their workers".
    """
    bench = Bench()
    flow = bench.flow
    dispatcher = flow.dispatcher
    for pid in range(6):
        worker = flow.roster.hello(
            name=f"far-{pid}",
            host="there",
            pid=pid,
            local=False,
            now_s=0.0,
            key="line-7",
            device=device,
            batch_jobs=32 if device else 0,
        )
        dispatcher.ready(worker, wire.Ready(worker.worker_id, "v", "h", 0.1, {}))
    for number in range(30):
        for kind in ("result", "trace", "heads"):
            found = payload(str(number))
            flow.arrived(f"box/t/{kind}", found, arrived_s=0.0, intake_s=0.0, now_s=0.0)
    held = 0
    for worker in flow.roster.of_key("line-7"):
        batch = dispatcher.next_jobs(0.0)
        dispatcher.sent(batch, 0.0)
        dispatcher.claimed(wire.Claim(worker.worker_id, [e.job_id for e in batch]), 0.0)
        held += len(batch)
    assert flow.ledger.claimed == held >= 6
    parts: Any = SimpleNamespace(
        config=Config(),
        flow=flow,
        **dict.fromkeys(("journal", "intake", "clock", "wall")),
        doors=None,
        rates=PlayedRates(offenders),
        started_s=0.0,
    )
    upkeep = Upkeep(parts, desk=bench.desk, report=parts)
    upkeep._keep_out(PlayedDoors(revoked), 0.1)  # type: ignore[arg-type]
    assert not flow.roster.of_key("line-7")
    assert (flow.ledger.claimed, flow.ledger.waiting) == (0, 30)
    assert [entry.deaths for entry in flow.ledger.entries()] == [0] * 30
    assert dispatcher.breaker.state is BreakerState.CLOSED
