"""What the desk does differently for a worker that came through a door."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_desk import HERE, INTRODUCTION, Bench

from farm import wire
from farm.broker.entry import Entry
from farm.broker.library import Library
from farm.broker.snapshot import workers
from farm.models.depthnet import BUILT_IN
from farm.models.package import ONNX, open_package

FAR = replace(
    INTRODUCTION,
    far_jobs_endpoint="tcp://*:7004",
    far_results_endpoint="tcp://*:7005",
    library=Library(open_package(BUILT_IN)),
)
HASH = open_package(BUILT_IN).short_hash(ONNX)


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.desk._introduction = FAR
    return made


def hello(bench: Bench, pid: int = 7, host: str = "there") -> wire.Welcome:
    welcome = bench.desk.answer(wire.Hello(f"far-{pid}", host, pid), 0.0, "line-7")
    assert isinstance(welcome, wire.Welcome)
    return welcome


def ready(bench: Bench, model_hash: str = HASH, pid: int = 7) -> tuple[int, wire.Message]:
    worker_id = hello(bench, pid).worker_id
    answer = bench.desk.answer(wire.Ready(worker_id, "v", model_hash, 0.1, {}), 0.0, "line-7")
    return worker_id, answer


def beat(bench: Bench, worker_id: int, now_s: float = 1.0) -> wire.Message:
    return bench.desk.answer(wire.Heartbeat(worker_id, "working", 1), now_s, "line-7")


def test_it_is_told_the_doors_and_the_model(bench: Bench) -> None:
    welcome = hello(bench)
    assert welcome.jobs_endpoint == "tcp://*:7004"
    assert welcome.results_endpoint == "tcp://*:7005"
    assert welcome.package["sha256"] == open_package(BUILT_IN).manifest.sha256
    assert bench.hello(8).package == {}


def test_it_is_never_taken_for_one_of_this_machine(bench: Bench) -> None:
    # prevents: a stranger's pid on our host's name, which the supervisor would be told to kill
    welcome = hello(bench, pid=1, host=HERE)
    assert welcome.slot == ""
    worker = bench.flow.roster.get(welcome.worker_id)
    assert worker is not None
    assert (worker.local, worker.key) == (False, "line-7")
    bench.fence(welcome.worker_id)
    assert bench.report().kill == []


def test_only_the_farms_model_is_wanted(bench: Bench) -> None:
    worker_id, answer = ready(bench)
    assert answer == wire.Orders(known=True)
    refused_id, refusal = ready(bench, "0123456789abcdef", 8)
    assert isinstance(refusal, wire.Refused)
    assert "another model" in refusal.reason
    assert bench.flow.roster.get(refused_id) is None
    assert bench.flow.roster.get(worker_id) is not None


def test_it_hears_which_results_have_come_once(bench: Bench) -> None:
    # prevents: results that are kept and sent again for ever, or given up before they came
    worker_id, _ = ready(bench)
    result = wire.Result(worker_id, 99, "ok", 1, "", {}, "m", "h", 0.1, 0.1)
    bench.flow.dispatcher.finished(result, 0.5)  # of a hole that has ended: taken all the same
    assert beat(bench, worker_id) == wire.Orders(known=True, taken=[99])
    assert beat(bench, worker_id) == wire.Orders(known=True)


def test_a_local_one_keeps_no_such_list() -> None:
    # prevents: a list that grows with every hole, since nobody asks for it
    bench = Bench()
    worker_id = bench.ready(7)
    result = wire.Result(worker_id, 99, "ok", 1, "", {}, "m", "h", 0.1, 0.1)
    bench.flow.dispatcher.finished(result, 0.5)
    assert bench.flow.roster.get(worker_id).taken == []  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["far-7", "line-7"])
def test_an_operator_has_it_leave_by_its_name_or_its_keys(bench: Bench, name: str) -> None:
    worker_id, _ = ready(bench)
    local_id = bench.ready(8)
    assert bench.desk.answer(wire.DrainWorker(name), 0.0) == wire.Done()
    orders = beat(bench, worker_id)
    assert isinstance(orders, wire.Orders)
    assert (bool(orders.leave), orders.anew) == (True, False)
    assert bench.desk.answer(wire.Heartbeat(local_id, "working", 1), 1.0) == wire.Orders(known=True)


def test_a_name_that_nobody_has_is_told(bench: Bench) -> None:
    ready(bench)
    refusal = bench.desk.answer(wire.DrainWorker("nobody"), 0.0)
    assert isinstance(refusal, wire.Refused)
    assert "far-7" in refusal.reason


def test_a_new_configuration_has_it_come_back_as_a_new_process(bench: Bench) -> None:
    # prevents: a worker elsewhere that goes on with the old model, since no supervisor replaces it
    worker_id, _ = ready(bench)
    local_id = bench.ready(8)
    bench.desk.answer(wire.Reload(), 0.0)
    bench.report()
    orders = beat(bench, worker_id)
    assert isinstance(orders, wire.Orders)
    assert orders.leave
    assert orders.anew
    assert bench.desk.answer(wire.Heartbeat(local_id, "working", 1), 1.0) == wire.Orders(known=True)


def test_it_does_not_stand_in_for_one_of_this_machine(bench: Bench) -> None:
    # prevents: a farm that calls itself complete while its own workers are missing
    ready(bench)
    bench.ready(8)
    assert not bench.desk.was_complete
    bench.ready(9)
    assert bench.desk.was_complete


def test_its_pace_is_told(bench: Bench) -> None:
    worker_id, _ = ready(bench)
    beat(bench, worker_id, 1.0)
    worker = bench.flow.roster.get(worker_id)
    assert worker is not None
    for second in range(2, 60):
        worker.jobs_done += 40
        beat(bench, worker_id, float(second))
    [row] = workers(bench.flow, 60.0)
    assert row["rate_hz"] == pytest.approx(40, rel=0.01)
    assert (row["key"], row["silent_s"]) == ("line-7", 1.0)


def test_a_hello_that_is_repeated_is_one_worker(bench: Bench) -> None:
    # prevents: phantoms that are fenced one by one, where a reply was lost on the way
    first = hello(bench).worker_id
    second = hello(bench).worker_id
    assert bench.flow.roster.get(first) is None
    assert bench.flow.roster.get(second) is not None
    other = bench.desk.answer(wire.Hello("far-7", "there", 7), 0.0, "line-8")
    assert isinstance(other, wire.Welcome)  # another key is another worker
    assert bench.flow.roster.get(second) is not None


def test_new_weights_reach_it_under_an_unchanged_configuration(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_id, _ = ready(bench)
    monkeypatch.setattr(bench.house, "reload", lambda: FAR)
    bench.desk.answer(wire.Reload(), 0.0)
    bench.report()
    assert beat(bench, worker_id) == wire.Orders(known=True)
    monkeypatch.setattr(bench.house, "reload", lambda: replace(FAR, library=Library(None)))
    bench.desk.answer(wire.Reload(), 0.0)
    bench.report()
    assert beat(bench, worker_id).anew  # type: ignore[union-attr]


def test_a_cable_that_is_cut_under_many_is_not_blamed_on_the_model(bench: Bench) -> None:
    # prevents: a farm that stops dispatching to its own workers, since somebody pulled a plug
    flow = bench.flow
    for pid in range(10, 16):
        worker_id = hello(bench, pid).worker_id
        flow.ledger.add(Entry(pid, ("box/tool", str(pid)), {}, 0, 0.0, 0.0, 0.0))
        flow.dispatcher.claimed(wire.Claim(worker_id, [pid]), 0.0)
    for worker in flow.roster.all():
        bench.fence(worker.worker_id, 100.0)  # none was heard of for so long
    assert flow.dispatcher.breaker.is_blaming
    assert flow.ledger.waiting == 6


def test_what_it_says_is_no_measure_for_ours(bench: Bench) -> None:
    # prevents: one wrong machine, and every worker of ours fails its golden hole
    golden = bench.flow.dispatcher.golden
    bench.ready(8)
    worker_id, _ = ready(bench)
    for job_id, by in ((1, worker_id), (2, bench.ready(9))):
        bench.flow.ledger.add(Entry(job_id, ("box/tool", "1"), {"trace": b"7"}, 1, 0.0, 0.0, 0.0))
        bench.flow._answers.expect("box/tool", job_id, 0.0)
        result = wire.Result(by, job_id, "ok", {"x": job_id}, "", {}, "m", "h", 0.1, 0.1)
        bench.flow.dispatcher.finished(result, 1.0)
        assert bool(golden.parts) == (by != worker_id)
