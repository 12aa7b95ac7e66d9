"""The desk answers each request once, and its kill orders reach the supervisor whatever is lost."""

import pytest

from farm import wire
from farm.broker.desk import ORDER_LIFE_S, Desk, Introduction
from farm.broker.flow import Flow
from farm.broker.roster import WorkerState
from farm.config import Config
from tests.unit.fakes import FakeAdapter

HERE = "here"


class Bench:
    """A desk with one farm behind it."""

    def __init__(self, expected_workers: int = 2) -> None:
        self.flow = Flow(Config(), FakeAdapter(), now_s=0.0)
        self.drains = 0
        self.desk = Desk(
            self.flow,
            Introduction(HERE, "ipc://jobs", "ipc://results", {"model": "rule"}, "abc"),
            expected_workers=expected_workers,
            take_snapshot=lambda now_s: {"at": now_s},
            start_drain=self._drain,
        )

    def _drain(self) -> None:
        self.drains += 1

    def hello(self, pid: int, host: str = HERE, now_s: float = 0.0) -> wire.Welcome:
        welcome = self.desk.answer(wire.Hello(str(pid), host, pid), now_s)
        assert isinstance(welcome, wire.Welcome)
        return welcome

    def ready(self, pid: int, host: str = HERE) -> int:
        worker_id = self.hello(pid, host).worker_id
        self.desk.answer(wire.Ready(worker_id, "v1", "h", 0.1), 0.0)
        return worker_id

    def report(self, *exits: tuple[int, str], now_s: float = 0.0) -> wire.SupervisorOrders:
        orders = self.desk.answer(wire.SupervisorReport(list(exits)), now_s)
        assert isinstance(orders, wire.SupervisorOrders)
        return orders

    def fence(self, worker_id: int, now_s: float = 0.0) -> None:
        worker = self.flow.roster.get(worker_id)
        assert worker is not None
        self.desk.fence(worker, "silent", now_s)


def test_a_worker_learns_everything_else_from_its_welcome() -> None:
    welcome = Bench().hello(7)
    assert (welcome.jobs_endpoint, welcome.results_endpoint) == ("ipc://jobs", "ipc://results")
    assert (welcome.config, welcome.config_hash) == ({"model": "rule"}, "abc")


def test_a_process_that_says_hello_again_is_one_worker_and_not_two() -> None:
    # its former self would be counted as idle for ever, and credit be given for it
    bench = Bench()
    first = bench.ready(7)
    second = bench.hello(7).worker_id
    assert first != second
    assert [w.worker_id for w in bench.flow.roster.all()] == [second]
    assert bench.flow.roster.idle == 0


def test_the_same_pid_on_another_machine_is_another_worker() -> None:
    bench = Bench()
    bench.ready(7)
    bench.ready(7, host="there")
    assert bench.flow.roster.ready == 2
    bench.report((7, "killed"))
    assert [w.host for w in bench.flow.roster.all()] == ["there"]


@pytest.mark.parametrize(
    "request_of",
    [
        lambda worker_id: wire.Ready(worker_id, "v", "h", 0.1),
        lambda worker_id: wire.Heartbeat(worker_id, "idle", 1),
    ],
)
def test_a_worker_of_a_former_broker_is_told_to_say_hello(request_of) -> None:
    assert Bench().desk.answer(request_of(12345), 0.0) == wire.Orders(known=False)


def test_a_heartbeat_of_a_leaving_worker_ends_its_credit() -> None:
    bench = Bench()
    worker_id = bench.ready(7)
    assert bench.flow.roster.idle == 1
    bench.desk.answer(wire.Heartbeat(worker_id, "draining", 5_000_000), 1.0)
    worker = bench.flow.roster.get(worker_id)
    assert worker is not None
    assert (worker.state, worker.rss_bytes) == (WorkerState.DRAINING, 5_000_000)
    assert bench.flow.roster.idle == 0


def test_the_farm_is_complete_once_all_expected_workers_were_ready() -> None:
    bench = Bench(expected_workers=2)
    bench.ready(1)
    assert not bench.desk.was_complete
    bench.ready(2)
    bench.report((1, "killed"))
    assert bench.desk.was_complete  # what is missing later is a fault, not a start


def test_a_kill_order_is_repeated_until_the_end_is_reported() -> None:
    # the supervisor's reply may be lost with its socket; a hung worker would then live for ever
    bench = Bench()
    bench.fence(bench.ready(7))
    assert bench.report().kill == [(7, "silent")]
    assert bench.report().kill == [(7, "silent")]
    assert bench.report((7, "killed by the supervisor")).kill == []


def test_a_kill_order_for_a_worker_that_nobody_supervises_lapses() -> None:
    bench = Bench()
    bench.fence(bench.ready(7))
    assert bench.report(now_s=ORDER_LIFE_S + 0.1).kill == []


def test_a_worker_of_another_machine_is_fenced_but_never_killed_here() -> None:
    # its pid may be anybody's on this machine
    bench = Bench()
    bench.fence(bench.ready(7, host="there"))
    assert bench.report().kill == []
    assert bench.flow.roster.all() == ()
    assert bench.flow.counts["workers_fenced"] == 1


def test_the_supervisor_hears_which_of_its_workers_came_up() -> None:
    bench = Bench()
    bench.ready(1)
    bench.hello(2)
    bench.ready(3, host="there")
    assert bench.report().ready_pids == [1]


def test_commands_are_served() -> None:
    bench = Bench()
    assert bench.desk.answer(wire.StatsRequest(), 5.0) == wire.StatsReply({"at": 5.0})
    assert bench.desk.answer(wire.Drain(), 5.0) == wire.Done()
    assert bench.drains == 1


def test_a_message_that_asks_nothing_is_refused_by_name() -> None:
    assert Bench().desk.answer(wire.Done(), 0.0) == wire.Refused("Done is no request")
