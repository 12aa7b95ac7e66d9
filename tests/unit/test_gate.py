"""What may be said through a door: of oneself, of jobs that one was sent, and no orders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from farm import wire
from farm.broker.entry import Entry
from farm.broker.gate import Gate
from farm.broker.ledger import Ledger
from farm.broker.roster import Roster
from farm.errors import ForgedError

if TYPE_CHECKING:
    from farm.broker.roster import Worker

JOB, TICKET = 70, 4711


class House:
    """A local worker, two that came by key, and an open job."""

    def __init__(self) -> None:
        self.roster = Roster(heartbeat_timeout_s=5, first_id=1)
        self.ledger = Ledger(claim_timeout_s=1, max_attempts=3)
        self.ledger.add(
            Entry(JOB, ("box/tool", "1"), {"trace": b"7"}, 1, 0.0, 0.0, 0.0, ticket=TICKET)
        )
        self.local = self.hello("1", "")
        self.near, self.far = self.hello("near", "near"), self.hello("far", "far")
        self.gate = Gate(self.roster, self.ledger)

    def hello(self, name: str, key: str) -> Worker:
        return self.roster.hello(name=name, host="h", pid=1, local=not key, now_s=0.0, key=key)

    def refused(self, message: wire.Message, peer: str) -> str:
        try:
            self.gate.check(message, peer)
        except ForgedError as error:
            return str(error)
        return ""


@pytest.fixture
def house() -> House:
    return House()


def result(worker: Worker, ticket: int = TICKET, job_id: int = JOB) -> wire.Result:
    return wire.Result(worker.worker_id, job_id, "ok", 1, "", {}, "m", "h", 0.1, 0.1, ticket=ticket)


def test_a_worker_speaks_for_itself_and_of_its_jobs(house: House) -> None:
    far = house.far.worker_id
    for message in (
        wire.Hello("far", "h", 1),
        wire.Ready(far, "m", "h", 0.1, {}),
        wire.Heartbeat(far, "working", 1),
        wire.Fetch("manifest.json", 0),
        wire.Claim(far, [JOB], [TICKET]),
        wire.Bounce(far, [JOB], [TICKET]),
        result(house.far),
        wire.Bye(far, "done"),
    ):
        assert house.refused(message, "far") == ""


@pytest.mark.parametrize("peer", ["near", ""])
def test_nobody_speaks_for_another_worker(house: House, peer: str) -> None:
    # prevents: a worker with a key that fences, drains or answers for all others
    far = house.far.worker_id
    for message in (
        wire.Ready(far, "m", "h", 0.1, {}),
        wire.Heartbeat(far, "draining", 1),
        wire.Claim(far, [JOB], [TICKET]),
        wire.Bounce(far, [JOB], [TICKET]),
        result(house.far),
        wire.Bye(far, "done"),
    ):
        assert "for another worker, far" in house.refused(message, peer)


def test_nor_for_one_of_this_machine(house: House) -> None:
    assert "for another worker, 1" in house.refused(result(house.local), "far")
    assert house.refused(result(house.local, ticket=0), "") == ""


@pytest.mark.parametrize("ticket", [0, TICKET + 1, 2**64 - 1])
def test_a_job_that_was_not_sent_is_neither_claimed_nor_answered(house: House, ticket: int) -> None:
    # prevents: a worker with a key that guesses ids, and answers holes it never saw
    far = house.far.worker_id
    for message in (
        wire.Claim(far, [JOB], [ticket]),
        wire.Bounce(far, [JOB], [ticket]),
        result(house.far, ticket),
    ):
        assert "was not sent" in house.refused(message, "far")


def test_one_forged_job_among_honest_ones_is_seen(house: House) -> None:
    house.ledger.add(Entry(71, ("box/tool", "2"), {}, 0, 0.0, 0.0, 0.0, ticket=5))
    claim = wire.Claim(house.far.worker_id, [JOB, 71], [TICKET, 5])
    assert house.refused(claim, "far") == ""
    assert "was not sent" in house.refused(claim._replace(tickets=[TICKET, 6]), "far")


@pytest.mark.parametrize("tickets", [[], [TICKET, TICKET]])
def test_as_many_tickets_as_jobs(house: House, tickets: list[int]) -> None:
    assert "was not sent" in house.refused(wire.Claim(house.far.worker_id, [JOB], tickets), "far")


def test_a_job_that_has_ended_is_nobodys_secret(house: House) -> None:
    # a late or repeated result is suppressed and counted elsewhere; it is no forgery
    house.ledger.end(JOB)
    assert house.refused(result(house.far, 0), "far") == ""


def test_who_was_fenced_may_still_bring_a_result_home_with_its_ticket(house: House) -> None:
    house.roster.remove(house.far.worker_id)
    assert house.refused(result(house.far), "far") == ""
    assert "was not sent" in house.refused(result(house.far, 1), "far")


@pytest.mark.parametrize(
    "order",
    [
        wire.Drain(),
        wire.Pause(),
        wire.Resume(),
        wire.Scale(0),
        wire.Configured(3),
        wire.DrainWorker("1"),
        wire.Retry([1]),
        wire.Drop([1]),
        wire.Reload(),
        wire.StatsRequest(),
        wire.StoryRequest("box/tool", "1"),
    ],
)
def test_orders_come_from_this_machine_alone(house: House, order: wire.Message) -> None:
    # prevents: a key for a worker that stops the farm, or reads what it does
    assert house.refused(order, "") == ""
    assert "give no orders" in house.refused(order, "far")


def test_every_message_that_is_not_a_workers_is_an_order(house: House) -> None:
    # prevents: a new kind of message that anybody with a key may send, since nobody thought of it
    allowed: set[type[Any]] = {
        wire.Hello, wire.Ready, wire.Heartbeat, wire.Fetch, wire.Bye,
        wire.Claim, wire.Bounce, wire.Result,
    }  # fmt: skip
    for kind in wire.Message.__args__:
        if kind not in allowed:
            assert "give no orders" in house.refused(object.__new__(kind), "far"), kind
