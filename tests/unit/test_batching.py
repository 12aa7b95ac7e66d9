"""Micro-batches: never slower when idle, never too large, and a bad hole costs only itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fakes import make_flow, payload

from farm import wire
from farm.broker.batching import Batching
from farm.broker.concurrency import Concurrency
from farm.broker.dispatcher import pack
from farm.config import Config

if TYPE_CHECKING:
    from farm.broker.entry import Entry
    from farm.broker.roster import Worker

SERVICE_S = 0.001


def made(service_s: float | None = SERVICE_S, **changes: Any) -> Batching:
    limits = {
        "most_jobs": 16,
        "most_bytes": 1_000_000,
        "objective_s": 1.0,
    } | changes
    batching = Batching(**limits)
    if service_s is not None:
        batching.measured(service_s)
    return batching


@pytest.mark.parametrize(
    ("waiting", "workers", "size"),
    [
        (1, 10, 1),  # no backlog: alone
        (10, 10, 1),  # each worker gets one
        (11, 10, 2),
        (64, 10, 7),  # a fair share: the others have nothing to do otherwise
        (1000, 10, 16),
        (5, 0, 5),
        (3, 1, 3),
    ],
)
def test_a_batch_is_a_share_of_what_waits(waiting: int, workers: int, size: int) -> None:
    """One worker that takes all while the others idle, or holes that wait for company."""
    assert made().size(waiting=waiting, workers=workers) == size


@pytest.mark.parametrize(
    ("service_s", "size"), [(0.001, 16), (0.01, 10), (0.05, 2), (0.2, 1), (30.0, 1), (0.0, 16)]
)
def test_a_batch_costs_no_more_than_a_share_of_the_objective(service_s: float, size: int) -> None:
    """With a slow model the first hole of a batch paying for fifteen others."""
    assert made(service_s).size(waiting=1000, workers=1) == size


def test_as_long_as_nothing_is_known_jobs_travel_alone() -> None:
    """Sixteen holes of a model that takes seconds in the first message."""
    assert made(None).size(waiting=1000, workers=1) == 1


def test_the_measure_follows_a_change_and_not_a_single_outlier() -> None:
    """One slow hole ending all batches, or a model that became slow still getting large ones."""
    batching = made(0.001)
    batching.measured(0.1)
    assert batching.size(waiting=1000, workers=1) == 16
    for _ in range(200):
        batching.measured(0.1)
    assert batching.size(waiting=1000, workers=1) == 1


# ---- in the flow ---------------------------------------------------------------------------------


class House:
    """A flow with some workers and holes of a fast model."""

    def __init__(self, **dispatch: Any) -> None:
        config = Config.model_validate({"dispatch": dispatch})
        self.flow = make_flow(config)
        self.now_s = 0.0
        self._pid = 100
        worker = self.hire()
        self.hole("first")  # tells how long a job takes
        [job_id] = self.offer()
        self.claim(worker, job_id)
        self.finish(worker, job_id)

    def hire(self) -> Worker:
        self._pid += 1
        worker = self.flow.roster.hello(
            name=str(self._pid), host="h", pid=self._pid, local=True, now_s=self.now_s
        )
        self.flow.dispatcher.ready(worker, wire.Ready(worker.worker_id, "m", "h", 0.1, {}))
        return worker

    def hole(self, part_id: str, size: int = 10) -> None:
        for kind in ("result", "trace", "heads"):
            self.flow.arrived(
                f"box/tool/{kind}",
                payload(part_id, "x" * (size - len(part_id) - 1)),
                arrived_s=self.now_s,
                intake_s=self.now_s,
                now_s=self.now_s,
            )

    def holes(self, count: int, size: int = 10) -> None:
        for number in range(count):
            self.hole(f"h{number}", size)

    def batch(self) -> list[Entry]:
        return self.flow.dispatcher.next_jobs(self.now_s)

    def offer(self) -> list[int]:
        """The jobs of the next message, which goes out."""
        batch = self.batch()
        self.flow.dispatcher.sent(batch, self.now_s)
        return [entry.job_id for entry in batch]

    def claim(self, worker: Worker, *job_ids: int) -> None:
        self.flow.dispatcher.claimed(wire.Claim(worker.worker_id, list(job_ids)), self.now_s)

    def finish(self, worker: Worker, job_id: int) -> None:
        half_s = SERVICE_S / 2
        self.flow.dispatcher.finished(
            wire.Result(worker.worker_id, job_id, "ok", 1, "", {}, "m", "h", half_s, half_s),
            self.now_s,
        )


def test_a_backlog_travels_in_batches_within_the_credit() -> None:
    """More messages than idle workers on the wire: a stuck one would swallow them."""
    house = House()
    house.hire()
    house.holes(40)
    first, second = house.offer(), house.offer()
    assert (len(first), len(second)) == (16, 12)  # half of 40, bounded; half of 24
    assert not house.batch()
    assert (house.flow.ledger.parcels, house.flow.ledger.on_wire) == (2, 28)
    assert first + second == sorted(first + second)


def test_holes_are_shared_among_those_who_compute_at_once() -> None:
    """Ten small batches for two cores: ten workers that wait for each other."""
    house = House()
    for _ in range(9):
        house.hire()
    house.flow.dispatcher.concurrency = Concurrency(parallel=2)
    house.flow.dispatcher.concurrency.measured(1.0)
    house.holes(30)
    assert [len(house.offer()) for _ in range(4)] == [10, 7, 5, 0]  # a third of what waits, each


def test_a_claimed_batch_is_one_busy_worker_until_its_results_are_there() -> None:
    """A worker counted as idle while it computes the rest of its batch, or busy for ever."""
    house = House()
    [worker] = house.flow.roster.all()
    house.holes(3)
    ids = house.offer()
    assert len(ids) == 3
    house.claim(worker, *ids)
    assert (house.flow.roster.idle, house.flow.ledger.parcels) == (0, 0)
    for job_id in ids:  # they come in one message
        house.finish(worker, job_id)
    assert (house.flow.roster.idle, len(house.flow.ledger)) == (1, 0)


def test_a_message_whose_jobs_are_claimed_in_part_still_counts() -> None:
    """Credit given back for a message of which a job is unclaimed."""
    house = House()
    [worker] = house.flow.roster.all()
    house.holes(3)
    ids = house.offer()
    house.claim(worker, *ids[:2])
    assert house.flow.ledger.parcels == 1
    house.flow.dispatcher.bounced(wire.Bounce(worker.worker_id, ids[2:]), house.now_s)
    assert house.flow.ledger.parcels == 0


def test_a_batch_is_bounded_by_its_bytes_and_a_large_hole_goes_nevertheless() -> None:
    """Sixteen holes of 10 MB in one message; or one that is never sent."""
    house = House(batch_bytes=3 * 30 * 10)
    house.holes(8, size=10 * 10)  # three parts each: 300 bytes a hole
    assert len(house.offer()) == 3
    house = House(batch_bytes=100)
    house.holes(2, size=200)
    assert len(house.offer()) == 1


def test_what_has_cost_a_worker_travels_alone() -> None:
    """A poison hole that takes fifteen good ones with it, each time."""
    house = House()
    worker = house.flow.roster.all()[0]
    house.holes(3)
    ids = house.offer()
    house.claim(worker, *ids)
    house.flow.dispatcher.worker_gone(worker, "killed", house.now_s)
    house.hire()
    assert len(house.offer()) == 1


def test_one_death_with_a_batch_is_one_death() -> None:
    """The model suspected, and dispatch paused, for one worker that ended with sixteen holes."""
    house = House(breaker_kills=3)
    worker = house.flow.roster.all()[0]
    house.holes(8)
    ids = house.offer()
    assert len(ids) == 8
    house.claim(worker, *ids)
    house.flow.dispatcher.worker_gone(worker, "killed", house.now_s)
    house.hire()
    assert house.batch(), house.flow.dispatcher.breaker.reason


def test_a_batch_may_take_the_time_of_all_its_jobs() -> None:
    """Sixteen healthy holes fenced together since each waited for the others."""
    house = House(job_timeout_s=10.0, claim_timeout_s=1.0)
    [worker] = house.flow.roster.all()
    house.holes(3)
    house.claim(worker, *house.offer())
    worker.heard_s = 30.0  # it speaks all the time
    assert house.flow.dispatcher.faults.faulty(29.9) == []
    [(at_fault, cause)] = house.flow.dispatcher.faults.faulty(30.1)
    assert at_fault is worker
    assert "over 10 s" in cause


def test_a_batch_that_can_not_be_packed_costs_only_the_hole_that_is_to_blame() -> None:
    """Good holes failed for the company they were in."""
    house = House()
    [worker] = house.flow.roster.all()
    house.holes(3)
    bad = house.batch()
    assert len(bad) == 3
    house.flow.dispatcher.unsendable(bad, "too large", house.now_s)
    tried = []
    while batch := house.batch():
        assert len(batch) == 1
        tried.append(batch[0].job_id)
        if batch[0].key[1] == "h1":
            house.flow.dispatcher.unsendable(batch, "too large", house.now_s)
            continue
        house.flow.dispatcher.sent(batch, house.now_s)
        house.claim(worker, tried[-1])
        house.finish(worker, tried[-1])
    assert tried == [entry.job_id for entry in bad]
    assert house.flow.counts["late_results"] == 0  # the other two were answered


def test_what_was_held_back_is_next_in_the_same_order_and_as_often_tried() -> None:
    """Holes turned round, or an attempt counted that never was, since no worker was connected."""
    house = House()
    house.holes(3)
    batch = house.batch()
    house.flow.dispatcher.held_back(batch, house.now_s)
    assert house.flow.ledger.parcels == 0
    again = house.batch()
    assert again == batch
    assert [job.attempt for job in pack(again).jobs] == [1, 1, 1]
