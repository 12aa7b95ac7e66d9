"""The desk answers each request once, and its kill orders reach the supervisor whatever is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from fakes import make_flow

from farm import wire
from farm.broker.desk import ORDER_LIFE_S, Desk, Introduction
from farm.broker.roster import WorkerState
from farm.config import Config
from farm.errors import ConfigError
from farm.scaler import Bounds, Load, Scaler

if TYPE_CHECKING:
    from farm.broker.roster import Worker

HERE = "here"


INTRODUCTION = Introduction(HERE, "ipc://jobs", "ipc://results", {"model": "rule"}, "abc")


class FakeHouse:
    """The broker process: notes what it is asked to do."""

    def __init__(self) -> None:
        self.drains = 0
        self.paused: list[bool] = []
        self.fault = ""  # what is wrong with the configuration that is read again
        self.letters: dict[int, tuple[str, str, dict[str, int]]] = {}

    def snapshot(self, now_s: float) -> dict[str, Any]:
        return {"at": now_s}

    def drain(self) -> None:
        self.drains += 1

    def pause(self, *, is_paused: bool) -> None:
        self.paused.append(is_paused)

    def reload(self) -> Introduction:
        if self.fault:
            raise ConfigError(self.fault)
        return replace(INTRODUCTION, config={"model": "new"}, config_hash="def")

    def dead_letter(self, hole_id: int) -> tuple[str, str, dict[str, int]]:
        return self.letters[hole_id]


class FakeSlots:
    """The folder of black boxes."""

    def __init__(self) -> None:
        self.removed: list[int] = []

    def path_of(self, worker: Worker) -> str:
        return f"/slots/{worker.worker_id}" if worker.local else ""

    def remove(self, worker: Worker) -> None:
        self.removed.append(worker.worker_id)


class Bench:
    """A desk with one farm behind it."""

    def __init__(self, expected_workers: int = 2, scaler: Scaler | None = None) -> None:
        self.flow = make_flow(Config())
        self.house = FakeHouse()
        self.slots = FakeSlots()
        self.desk = Desk(
            self.flow,
            self.house,
            INTRODUCTION,
            slots=self.slots,
            expected_workers=expected_workers,
            scaler=scaler,
        )

    def hello(self, pid: int, host: str = HERE, now_s: float = 0.0) -> wire.Welcome:
        welcome = self.desk.answer(wire.Hello(str(pid), host, pid), now_s)
        assert isinstance(welcome, wire.Welcome)
        return welcome

    def ready(self, pid: int, host: str = HERE) -> int:
        worker_id = self.hello(pid, host).worker_id
        self.desk.answer(wire.Ready(worker_id, "v1", "h", 0.1, {}), 0.0)
        return worker_id

    def report(self, *exits: tuple[int, str], now_s: float = 0.0) -> wire.SupervisorOrders:
        orders = self.desk.answer(wire.SupervisorReport(list(exits), [], {}), now_s)
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
        lambda worker_id: wire.Ready(worker_id, "v", "h", 0.1, {}),
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
    assert bench.house.drains == 1


def test_a_message_that_asks_nothing_is_refused_by_name() -> None:
    assert Bench().desk.answer(wire.Done(), 0.0) == wire.Refused("Done is no request")


# ---- an operator's requests ----------------------------------------------------------------------


def test_intake_is_paused_and_resumed() -> None:
    bench = Bench()
    assert bench.desk.answer(wire.Pause(), 0.0) == wire.Done()
    assert bench.desk.answer(wire.Resume(), 0.0) == wire.Done()
    assert bench.house.paused == [True, False]


def test_the_supervisor_hears_how_many_workers_to_keep_once_somebody_said_so() -> None:
    bench = Bench()
    assert bench.report().workers == -1
    bench.desk.answer(wire.Scale(5), 0.0)
    assert bench.report().workers == 5
    assert bench.report().pinned
    assert bench.desk.expected_workers == 5  # else the farm would be called incomplete, or too full
    bench.desk.answer(wire.Scale(wire.Scale.AUTO), 0.0)
    assert bench.report() == wire.SupervisorOrders([], [], 2, pinned=False)


def test_a_reload_of_the_number_is_no_operators_pin() -> None:
    # prevents: `farm scale auto` that goes back to what was configured before the reload
    bench = Bench(10)
    assert bench.desk.answer(wire.Configured(4), 0.0) == wire.Done()
    assert bench.report() == wire.SupervisorOrders([], [], 4, pinned=False)
    bench.desk.answer(wire.Scale(wire.Scale.AUTO), 0.0)
    assert bench.report().workers == 4


def test_the_supervisor_hears_of_more_workers_when_more_arrives_than_they_can_do() -> None:
    # prevents: a scaler that decides well and is never asked, or is asked with wrong figures
    bench = Bench(scaler=Scaler(Bounds(1, 8), start=1))
    for name in ("1", "far"):
        worker = bench.flow.roster.hello(
            name=name, host=name, pid=7, local=name == "1", now_s=0.0
        )  # fmt: skip
        bench.flow.dispatcher.ready(worker, wire.Ready(worker.worker_id, "m", "h", 0.1, {}))
    stages = bench.flow.dispatcher.stages
    for _ in range(10):
        stages["reading"].add(0.02)
        stages["inference"].add(0.08)
    wanted = []
    for second in range(40):
        for _ in range(25):
            bench.flow.monitor.arrived(float(second))
        orders = bench.desk.answer(wire.SupervisorReport([], [], {}), float(second))
        wanted.append(orders.workers)
    # 25/s of 0.1 s are 2.5 busy, 3.6 at 70 %, of which another machine's worker is one
    assert (wanted[0], wanted[-1]) == (1, 3)
    assert wanted == sorted(wanted)
    assert bench.desk.scaler.snapshot()["reason"].endswith("workers at 70% busy")
    for job_id in range(5):
        bench.flow.dispatcher.breaker.killed(job_id, 39.0)
    assert bench.flow.dispatcher.breaker.reason
    for second in range(40, 60):
        for _ in range(200):
            bench.flow.monitor.arrived(float(second))
        orders = bench.desk.answer(wire.SupervisorReport([], [], {}), float(second))
    assert orders.workers == 3, "no worker helps while the model is suspected"


def test_a_local_worker_that_leaves_hides_none_of_another_machine() -> None:
    # prevents: one local worker more for each that is about to leave
    seen: list[Load] = []

    class Watched(Scaler):
        def look(self, load: Load, now_s: float) -> bool:
            seen.append(load)
            return super().look(load, now_s)

    bench = Bench(scaler=Watched(Bounds(1, 8), start=1))
    bench.ready(1, host="far")
    leaving = bench.ready(2)
    bench.desk.answer(wire.Heartbeat(leaving, WorkerState.DRAINING.value, 0), 0.0)
    bench.report()
    assert seen[-1].elsewhere == 1


def test_a_configuration_that_was_read_again_is_for_those_who_join_later() -> None:
    bench = Bench()
    assert bench.hello(1).config == {"model": "rule"}
    assert bench.desk.answer(wire.Reload(), 0.0) == wire.Done()
    assert (bench.hello(2).config, bench.hello(2).config_hash) == ({"model": "new"}, "def")


def test_a_wrong_configuration_changes_nothing() -> None:
    bench = Bench()
    bench.house.fault = "line 3: no such key"
    with pytest.raises(ConfigError, match="line 3"):
        bench.desk.answer(wire.Reload(), 0.0)
    assert bench.hello(2).config == {"model": "rule"}


def test_what_only_the_supervisor_knows_is_remembered_for_the_snapshot() -> None:
    bench = Bench()
    told = {"state": "ready", "made": 1}
    bench.desk.answer(wire.SupervisorReport([], [(2, "exit code 8 (model)")], told), 0.0)
    assert bench.desk.failed_slots == [(2, "exit code 8 (model)")]
    assert bench.desk.nursery == told


def test_a_dead_letter_is_retried_once_however_often_it_is_asked_for() -> None:
    # the journal knows of the first retry only after its next commit
    bench = Bench()
    bench.house.letters[42] = ("box/tool", "7", {"result": 1, "trace": 2})
    first = bench.desk.answer(wire.Retry([42, 42]), 0.0)
    assert isinstance(first, wire.Handled)
    assert (len(first.done), first.refused) == (1, [])
    assert bench.flow.ledger.waiting == 1
    second = bench.desk.answer(wire.Retry([42]), 0.0)
    assert second == wire.Handled([], [(42, "it has just been dealt with")])
    assert bench.flow.ledger.waiting == 1


def test_dropping_names_what_could_not_be_dropped() -> None:
    bench = Bench()
    bench.house.letters[42] = ("box/tool", "7", {})
    reply = bench.desk.answer(wire.Drop([42, 43]), 0.0)
    assert isinstance(reply, wire.Handled)
    assert reply.done == [42]
    assert [number for number, _ in reply.refused] == [43]


def test_a_new_worker_that_fails_on_the_golden_hole_never_gets_another() -> None:
    # prevents: a roll-out of a model that loads, warms up, and answers rubbish
    bench = Bench()
    golden = bench.flow.dispatcher.golden
    golden.keep({"result": b"r", "trace": b"t"}, {"keypoints_mm": [1.0, 2.0]}, "h", 100.0)
    welcome = bench.hello(7)
    assert welcome.golden == {"result": b"r", "trace": b"t"}
    answer = {"status": "ok", "value": {"keypoints_mm": [1.0, 9.0]}, "reason": ""}
    reply = bench.desk.answer(wire.Ready(welcome.worker_id, "v", "h", 0.1, answer), 1.0)
    assert isinstance(reply, wire.Refused)
    assert "golden" in reply.reason
    assert bench.flow.roster.ready == 0
    assert [pid for pid, _ in bench.report().kill] == [7]


def test_the_black_box_of_a_worker_that_is_gone_is_removed() -> None:
    bench = Bench()
    worker_id = bench.ready(7)
    bench.report((7, "killed"))
    assert bench.slots.removed == [worker_id]
    assert bench.hello(8, host="there").slot == ""


class FleetBench(Bench):
    """A desk whose workers are on Ray, behind a door."""

    def __init__(self, scaler: Scaler | None = None) -> None:
        super().__init__(expected_workers=2, scaler=scaler)
        self.desk = Desk(
            self.flow,
            self.house,
            INTRODUCTION,
            slots=self.slots,
            expected_workers=2,
            scaler=scaler,
            has_fleet=True,
        )

    def join(self, name: str, key: str = "ray") -> None:
        worker = self.flow.roster.hello(
            name=name, host="far", pid=7, local=not key, now_s=0.0, key=key
        )
        self.flow.dispatcher.ready(worker, wire.Ready(worker.worker_id, "m", "h", 0.1, {}))

    def fleet(self, *names: str) -> int:
        orders = self.desk.answer(wire.FleetReport(list(names), {"wanted": 2}), 0.0)
        assert isinstance(orders, wire.FleetOrders)
        return orders.workers


def test_the_fleet_hears_how_many_once_the_supervisor_has_spoken() -> None:
    # prevents: a broker that was restarted and undoes what an operator pinned before
    bench = FleetBench()
    assert bench.fleet() == -1
    bench.desk.answer(wire.Scale(5), 0.0)  # what the supervisor remembers comes first
    bench.report()
    assert bench.fleet() == 5


def test_the_workers_of_the_fleet_are_those_that_count() -> None:
    # prevents: a farm on Ray that is called incomplete for ever, or whole with others' workers
    bench = FleetBench()
    bench.join("ray-1")
    bench.join("line-7", key="line-7")
    bench.join("1", key="")
    assert bench.desk.ready_workers == 0  # the fleet has not said which are its own
    bench.fleet("ray-1", "ray-2")
    assert bench.desk.ready_workers == 1
    bench.join("ray-2")
    assert bench.desk.ready_workers == 2
    assert bench.desk.fleet == {"wanted": 2}


def test_the_load_asks_for_more_of_the_fleet_beside_those_who_help() -> None:
    # prevents: a need from which the fleet's own workers are taken away, so that it never grows
    bench = FleetBench(scaler=Scaler(Bounds(1, 8), start=1))
    bench.join("ray-1")
    bench.join("line-7", key="line-7")
    bench.fleet("ray-1")
    stages = bench.flow.dispatcher.stages
    for _ in range(10):
        stages["reading"].add(0.02)
        stages["inference"].add(0.08)
    for second in range(40):
        for _ in range(25):
            bench.flow.monitor.arrived(float(second))
        bench.report(now_s=float(second))
    # 25/s of 0.1 s are 2.5 busy, 3.6 at 70 %, of which the worker of line 7 is one
    assert bench.fleet("ray-1") == 3


def test_one_with_a_gpu_is_told_how_large_its_batches_may_be() -> None:
    """A worker that claims more than it was given credit for: the rest would be sent to nobody."""
    bench = Bench()
    asked = {0: 256, 64: 64, 5000: 256, -1: 256}
    for pid, (batch_jobs, expected) in enumerate(asked.items()):
        welcome = bench.desk.answer(wire.Hello("g", HERE, pid, "cuda:0", batch_jobs), 0.0)
        assert isinstance(welcome, wire.Welcome)
        assert welcome.batch_jobs == expected
    without = bench.desk.answer(wire.Hello("1", HERE, 99, "", 64), 0.0)
    assert isinstance(without, wire.Welcome)
    assert without.batch_jobs == 0


def test_workers_with_a_gpu_are_expected_and_not_scaled() -> None:
    """A farm that is well without its GPUs; one that takes them for workers which the load needs,
    or starts others that can't load a model for GPUs alone.
    """
    bench = Bench(expected_workers=2)
    bench.desk.answer(wire.SupervisorReport([], [], {}, {"gpu0": "", "gpu1": "killed"}), 0.0)
    assert bench.desk.expected_workers == 4
    assert bench.desk.gpu_workers == {"gpu0": "", "gpu1": "killed"}
    assert isinstance(bench.desk.answer(wire.Scale(5), 0.0), wire.Done)
    bench.desk._is_for_gpus = True
    refused = bench.desk.answer(wire.Scale(5), 0.0)
    assert isinstance(refused, wire.Refused)
    assert "workers.gpus" in refused.reason


def test_ends_of_workers_are_counted_for_monitoring() -> None:
    """Prevents: workers that die every minute, and no figure shows it."""
    bench = Bench()
    for pid in (7, 8, 9):
        bench.hello(pid)
    bench.report((7, "exit code 0 (ok)"), (8, "killed by SIGSEGV"))
    bench.report((9, "killed by the supervisor (SIGKILL)"))
    assert bench.desk.exits == {"asked": 1, "signal": 1, "killed": 1}
