"""Workers with a GPU among others: what they are sent, what they hold, and who is blamed.

The farm is played in one process: the real dispatcher, the real hands of the workers, a dealer that
is as blind as PUSH, and a clock that nobody waits for.
"""

from __future__ import annotations

import heapq
import itertools
import queue
from dataclasses import dataclass, field
from typing import Any

import pytest
from fakes import make_flow, payload

from farm import wire
from farm.broker import holding
from farm.broker.roster import Roster, Worker, WorkerState
from farm.config import Config
from farm.slot import MAX_JOBS
from farm.worker.batches import Batches, Work
from farm.worker.hand import Hand

HOLE_S = 0.02  # of a worker without a GPU, for each hole
CALL_S = 0.04  # of one with, whatever the batch
BATCH = 64


@dataclass
class Played:
    """A worker: what it holds, and what it computes now."""

    row: Worker
    hand: Hand
    inbox: queue.SimpleQueue[Work | None] = field(default_factory=queue.SimpleQueue)
    computing: list[wire.Job] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    batcher: Batches = field(init=False)

    def __post_init__(self) -> None:
        self.batcher = Batches(self.inbox)

    def next(self) -> list[wire.Job]:
        """What it computes next; [] where there is nothing."""
        if self.inbox.empty() and self.batcher._kept is None:
            return []
        work = self.batcher.next(self.row.batch_jobs)
        assert work is not None
        return list(work.jobs)


class Farm:
    """See the module."""

    def __init__(self, plain: int, gpus: int, **settings: Any) -> None:
        settings.setdefault("correlation", {"optional_parts": "never"})
        settings.setdefault("dispatch", {"gpu_batch_jobs": BATCH})
        self.slots: dict[int, frozenset[int]] = {}
        self.flow = make_flow(Config.model_validate(settings), slots=self.slots)
        self.now_s = 0.0
        self.messages = self.bounces = 0
        self._ends: list[tuple[float, int, Played]] = []
        self._count = itertools.count()
        self.workers = [self._hire("", n) for n in range(plain)]
        self.workers += [self._hire(f"cuda:{n}", plain + n) for n in range(gpus)]
        self.turn = 0

    def lose(self, worker: Played, cause: str = "killed by SIGKILL") -> None:
        """It ends, and a new one like it comes."""
        self.flow.dispatcher.worker_gone(worker.row, cause, self.now_s)
        self._ends = [end for end in self._ends if end[2] is not worker]
        heapq.heapify(self._ends)
        place, row = self.workers.index(worker), worker.row
        self.workers[place] = self._hire(row.device, row.pid, local=row.local)

    def _hire(self, device: str, pid: int, *, local: bool = True) -> Played:
        batch_jobs = BATCH if device else 0
        row = self.flow.roster.hello(
            name=str(pid),
            host="here",
            pid=pid,
            local=local,
            now_s=self.now_s,
            device=device,
            batch_jobs=batch_jobs,
        )
        self.flow.dispatcher.ready(row, wire.Ready(row.worker_id, "m1", "h1", 0.1, {}))
        return Played(row, Hand(batch_jobs))

    def arrive(self, count: int) -> None:
        for _ in range(count):
            number = next(self._count)
            for kind in ("result", "trace"):
                self.flow.arrived(
                    f"box/tool{number % 7}/{kind}",
                    payload(str(number)),
                    arrived_s=self.now_s,
                    intake_s=self.now_s,
                    now_s=self.now_s,
                )

    def deal(self) -> None:
        """Send what the credit allows, each message to whose turn it is."""
        dispatcher = self.flow.dispatcher
        while batch := dispatcher.next_jobs(self.now_s):
            jobs = wire.decode_jobs(wire.encode_jobs(_pack(batch)))
            dispatcher.sent(batch, self.now_s)
            self.messages += 1
            assert self.messages < 100_000, "messages bounce for ever"
            worker = self.workers[self.turn % len(self.workers)]
            self.turn += 1
            self._receive(worker, jobs)

    def _receive(self, worker: Played, message: wire.Jobs) -> None:
        ids = [job.job_id for job in message.jobs]
        if not worker.hand.takes(ids):
            self.bounces += 1
            self.flow.dispatcher.bounced(wire.Bounce(worker.row.worker_id, ids), self.now_s)
            return
        worker.hand.take(ids)
        worker.inbox.put(Work(worker.row.worker_id, message.jobs, message.alone))
        self.flow.dispatcher.claimed(wire.Claim(worker.row.worker_id, ids), self.now_s)
        if not worker.computing:
            self._begin(worker)

    def _begin(self, worker: Played) -> None:
        worker.computing = worker.next()
        if not worker.computing:
            self.slots[worker.row.worker_id] = frozenset()
            return
        worker.batches.append(len(worker.computing))
        self.slots[worker.row.worker_id] = frozenset(job.job_id for job in worker.computing)
        took_s = CALL_S if worker.hand.gathers else HOLE_S * len(worker.computing)
        heapq.heappush(self._ends, (self.now_s + took_s, worker.row.worker_id, worker))

    def step(self) -> bool:
        """Go on to the next end of a batch; False: nobody computes."""
        if not self._ends:
            return False
        before_s = self.now_s
        self.now_s, _, worker = heapq.heappop(self._ends)
        done = worker.computing
        share_s = (CALL_S if worker.hand.gathers else HOLE_S * len(done)) / len(done)
        for job in done:
            result = wire.Result(
                *(worker.row.worker_id, job.job_id, "ok", 1, "", {}, "m1", "h1", 0.0, share_s),
                1.0,
            )
            self.flow.dispatcher.finished(result, self.now_s, batch=len(done))
        worker.hand.done(len(done))
        self._begin(worker)
        if int(self.now_s / 0.02) != int(before_s / 0.02):
            self.flow.dispatcher.reclaim(self.now_s)
        self.deal()
        return True

    def run(self) -> float:
        """Until nothing is open; returns how long that took."""
        self.deal()
        while self.step():
            pass
        return self.now_s

    @property
    def done(self) -> dict[str, int]:
        return {
            worker.row.device or worker.row.name: worker.row.jobs_done for worker in self.workers
        }


def _pack(batch: list[Any]) -> wire.Jobs:
    from farm.broker.dispatcher import pack  # noqa: PLC0415

    return pack(batch)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farm.broker.dispatcher.cores", lambda: 2)


@pytest.mark.parametrize(("plain", "gpus"), [(0, 1), (2, 1), (10, 1), (2, 2), (10, 4)])
def test_whoever_has_a_gpu_claims_more_and_nothing_is_left(plain: int, gpus: int) -> None:
    """A GPU that gets a turn as others do; a message that bounces for ever; a hole forgotten."""
    farm = Farm(plain, gpus)
    farm.arrive(2000)
    farm.run()
    assert len(farm.flow.ledger) == 0
    assert sum(farm.done.values()) == 2000
    on_gpus = sum(n for name, n in farm.done.items() if name.startswith("cuda"))
    assert on_gpus > 0.7 * 2000
    for worker in farm.workers:
        if worker.row.device:
            # once it is known what it takes, its batches are full: no message is split for them
            assert BATCH - MAX_JOBS < max(worker.batches) <= BATCH
            assert not worker.row.held
            assert worker.row.held_bytes == 0


def test_the_others_have_work_too() -> None:
    """Workers without a GPU that starve beside one: they would be paid for nothing."""
    farm = Farm(2, 1)
    farm.arrive(2000)
    farm.run()
    # as much as they can do in that time, but for their last batch
    can_do = farm.now_s / HOLE_S
    for name in ("0", "1"):
        assert farm.done[name] > 0.5 * can_do


def test_a_hole_alone_does_not_wait_for_others() -> None:
    """A batch that waits to be filled."""
    farm = Farm(0, 1)
    farm.arrive(1)
    assert farm.run() == pytest.approx(CALL_S)


def test_without_a_gpu_the_credit_is_what_it_was() -> None:
    """A farm without any that sends more, or fewer, messages than it has idle workers."""
    farm = Farm(3, 0)
    farm.arrive(50)
    assert farm.flow.dispatcher.credit == 3
    assert not farm.flow.roster.gathering


def test_workers_with_a_gpu_use_no_cores() -> None:
    """Workers on the CPU kept idle, since one that waits for its GPU was taken for busy."""
    farm = Farm(4, 1)
    for _ in range(100):
        farm.flow.dispatcher.concurrency.measured(1.0)  # they do nothing but compute
    gpu = farm.workers[-1].row
    most = farm.flow.dispatcher.concurrency.most
    assert most == 3
    room = farm.flow.dispatcher.credit - most
    assert room == holding.LEAST_HELD // MAX_JOBS
    farm.flow.roster.gathered(gpu, {1000 + n: 10 for n in range(holding.LEAST_HELD)}, 0.0)
    assert farm.flow.dispatcher.credit == most


@pytest.mark.parametrize(
    ("held", "held_bytes", "service_s", "messages"),
    [
        (0, 0, None, 2),  # nothing is known of it: two full messages
        (16, 0, None, 1),
        (17, 0, None, 0),
        (0, 0, 0.0001, 8),  # two batches
        (100, 0, 0.0001, 1),
        (120, 0, 0.0001, 0),
        (128, 0, 0.0001, 0),
        (0, 0, 0.0105, 6),  # what it computes in a second
        (0, 0, 0.0125, 5),
        (0, 0, 0.0124, 6),  # 81 holes: rounded up, or at 16 a batch it would never grow
        (0, 0, 10.0, 2),
        (1, 8_000_000, 0.0001, 4),  # large messages
        (1, 80_000_000, 0.0001, 0),
        (0, 0, 1e-15, 8),
    ],
)
def test_how_many_messages_one_has_room_for(
    held: int, held_bytes: int, service_s: float | None, messages: int
) -> None:
    """A worker that is sent more than it takes: it bounces for ever; a slow GPU that hoards."""
    worker = Worker(1, "gpu0", "here", 7, True, 0.0, 0.0, device="cuda:0", batch_jobs=BATCH)
    worker.held = dict.fromkeys(range(held), 0)
    worker.held_bytes, worker.service_s = held_bytes, service_s
    found = holding.room(
        [worker], message_jobs=16, full_jobs=16, message_bytes=2_000_000, objective_s=1.0
    )
    assert found == messages
    hand = Hand(BATCH)  # and the worker agrees
    if held:
        hand.take(range(held))
    for number in range(messages):
        ids = list(range(1000 + 16 * number, 1016 + 16 * number))
        assert hand.takes(ids)
        hand.take(ids)


@pytest.mark.parametrize(
    ("held", "message_jobs", "messages"),
    [(0, 1, 8), (100, 1, 8), (125, 1, 3), (128, 1, 0), (0, 5, 8), (100, 5, 5), (127, 5, 0)],
)
def test_small_messages_fill_a_worker_as_well(held: int, message_jobs: int, messages: int) -> None:
    """Messages of one hole, of which a GPU took no more than of full ones: batches of eight; or a
    hundred of them on the wire, which all bounce from worker to worker.
    """
    worker = Worker(1, "gpu0", "here", 7, True, 0.0, 0.0, device="cuda:0", batch_jobs=BATCH)
    worker.held, worker.service_s = dict.fromkeys(range(held), 0), 0.0001
    found = holding.room(
        [worker],
        message_jobs=message_jobs,
        full_jobs=16,
        message_bytes=2_000_000,
        objective_s=1.0,
    )
    assert found == messages


@pytest.mark.parametrize(
    ("plain", "hole_s", "call_s"),
    [
        (0, 0.02, 0.04),
        (0, 0.02, 0.2),
        (0, 0.02, 0.4),
        (2, 0.2, 0.15),
        (2, 0.02, 0.2),
        (2, 1.0, 0.3),
    ],
)
def test_a_slow_call_does_not_keep_the_batches_small(
    plain: int, hole_s: float, call_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU of which two calls fit into the objective, and which computes eight holes at a time
    however many wait: a fiftieth of what it could.
    """
    monkeypatch.setattr("test_holding.HOLE_S", hole_s)
    monkeypatch.setattr("test_holding.CALL_S", call_s)
    farm = Farm(plain, 1)
    farm.arrive(4000)
    farm.run()
    batches = farm.workers[-1].batches
    # from the first hole on it must find out; the last batches are what was left
    middle = batches[len(batches) // 2 : -2]
    assert sum(middle) > 0.7 * BATCH * len(middle)


@pytest.mark.parametrize(
    ("jobs", "patience"), [(1, 1), (16, 16), (17, 16), (256, 16), (512, 32), (2048, 128)]
)
def test_how_long_a_batch_may_take(jobs: int, patience: int) -> None:
    """A GPU that hangs, and is let hang for 512 times what one hole may take."""
    assert holding.patience(jobs) == patience


@pytest.mark.parametrize(
    ("hole_s", "call_s", "call_limit_s"), [(4.0, 0.04, 2.0), (4.0, 0.2, 10.0), (9.0, 1.0, 50.0)]
)
def test_whoever_is_slow_beside_a_gpu_is_not_fenced_for_it(
    hole_s: float, call_s: float, call_limit_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers without a GPU that are killed, with the hole that they compute, since a hole's share
    of the GPU's time is so small; a GPU that is killed over a lone hole, which takes a whole call.
    """
    monkeypatch.setattr("test_holding.HOLE_S", hole_s)
    monkeypatch.setattr("test_holding.CALL_S", call_s)
    farm = Farm(2, 1)
    dispatcher = farm.flow.dispatcher
    while farm.now_s < 6 * hole_s:
        farm.arrive(20)
        farm.deal()
        assert farm.step()
        assert dispatcher.faults.faulty(farm.now_s) == []
    assert dispatcher.faults.call_deadline.timeout_s == pytest.approx(call_limit_s, rel=0.1)
    assert farm.workers[0].row.jobs_done > 3
    # and yet a GPU that hangs is found out, long before sixteen times what one hole may take
    gpu = farm.workers[-1].row
    for row in farm.flow.roster.all():
        row.heard_s = farm.now_s + 60.0
    assert gpu.current is not None
    since_s = gpu.current_since_s
    for after_s, are_late in ((0.85 * call_limit_s, False), (1.15 * call_limit_s, True)):
        found = [worker for worker, _ in dispatcher.faults.faulty(since_s + after_s)]
        assert (gpu in found) is are_late


def test_a_gpu_that_computes_blamed_holes_one_by_one_is_not_fenced_for_the_last_of_them() -> None:
    """Two hundred holes that a death has marked, each a call of its own: the last one waits long,
    and that is nobody's fault.
    """
    farm = Farm(0, 1, dispatch={"gpu_batch_jobs": BATCH})
    farm.arrive(3000)
    farm.run()
    farm.arrive(200)
    for entry in farm.flow.ledger.entries():
        entry.deaths = 1
    farm.deal()
    while farm.step():
        assert farm.flow.dispatcher.faults.faulty(farm.now_s) == []
    assert len(farm.flow.ledger) == 0
    assert farm.workers[0].batches[-200:] == [1] * 200


def test_a_worker_that_goes_on_is_not_stuck_and_one_that_does_not_is() -> None:
    """A busy GPU that is killed since it is never idle; one that hangs, and is never found out."""
    roster = Roster(heartbeat_timeout_s=5.0, first_id=1)
    worker = roster.hello(
        name="gpu0", host="h", pid=1, local=True, now_s=0.0, device="cuda:0", batch_jobs=BATCH
    )
    roster.become(worker, WorkerState.IDLE)
    roster.gathered(worker, dict.fromkeys(range(16), 5), 0.0)
    assert (roster.idle, worker.state, worker.held_bytes) == (0, WorkerState.BUSY, 80)
    roster.gathered(worker, dict.fromkeys(range(16, 32), 5), 1.0)
    for n in range(16):
        roster.lay_down(worker, n, 20.0)
    assert worker.state is WorkerState.BUSY
    assert roster.stuck(35.0, 1.0) == ()
    assert roster.stuck(37.0, 1.0) == (worker,)
    assert roster.stalled(37.0, 1.0) == 0  # it uses no core
    for n in range(16, 32):
        roster.lay_down(worker, n, 38.0)
    assert (roster.idle, worker.current, worker.held_bytes) == (1, None, 0)
    roster.remove(worker.worker_id)
    assert (roster.idle, roster.ready, len(roster.gathering)) == (0, 0, 0)


def test_a_worker_that_drains_has_room_for_nothing() -> None:
    """Messages for a worker that bounces all of them."""
    farm = Farm(0, 1)
    row = farm.workers[0].row
    farm.flow.roster.become(row, WorkerState.DRAINING)
    assert farm.flow.dispatcher.credit == 0


def died(farm: Farm, worker: Played) -> set[int]:
    """The jobs that are blamed for its end."""
    farm.flow.dispatcher.worker_gone(worker.row, "killed by SIGKILL", farm.now_s)
    return {entry.job_id for entry in farm.flow.ledger.entries() if entry.deaths}


def test_who_dies_with_many_jobs_is_blamed_on_those_that_it_computed() -> None:
    """Holes given up for the company they kept: those that only waited behind a batch."""
    farm = Farm(0, 1)
    farm.arrive(1000)
    farm.deal()
    for _ in range(8):
        farm.step()
    worker = farm.workers[0]
    computing = {job.job_id for job in worker.computing}
    held = set(worker.row.held)
    assert computing < held
    assert len(held) >= 40
    assert died(farm, worker) == computing
    assert all(farm.flow.ledger.get(job_id) is not None for job_id in held)


@pytest.mark.parametrize("is_far", [False, True])
@pytest.mark.parametrize("poisons", [1, 8])
def test_holes_that_end_their_workers_take_no_others_with_them(poisons: int, is_far: bool) -> None:
    """Innocent holes given up: of a worker elsewhere nobody can read which batch it computed, and
    those that waited behind a hole that travels alone were blamed with it, again and again.
    """
    farm = Farm(0, 1, dispatch={"gpu_batch_jobs": BATCH, "breaker_kills": 1000})
    if is_far:
        farm.flow.dispatcher._read_slot = lambda _worker: None
    farm.arrive(400)
    every = 400 // poisons
    poison = {entry.job_id for entry in list(farm.flow.ledger.entries())[every // 2 :: every]}
    farm.deal()
    given_up: set[int] = set()
    while len(farm.flow.ledger):
        worker = farm.workers[0]
        before = {entry.job_id for entry in farm.flow.ledger.entries()}
        if poison & {job.job_id for job in worker.computing}:
            farm.lose(worker)
            given_up |= before - {entry.job_id for entry in farm.flow.ledger.entries()}
            farm.deal()
        else:
            assert farm.step()
    assert given_up == poison


def test_a_blamed_hole_is_marked_so_that_no_gpu_gathers_it() -> None:
    """A second death that costs the 255 holes of its batch an attempt."""
    farm = Farm(0, 1)
    farm.arrive(1)
    [entry] = farm.flow.ledger.entries()
    entry.deaths = 1
    [batch] = [farm.flow.dispatcher.next_jobs(0.0)]
    assert _pack(batch).alone
    entry.deaths = 0
    assert not _pack(batch).alone
