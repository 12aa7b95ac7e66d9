"""The reader thread, over real sockets inside this process, with a broker that is played.

Every wait has an end, and none is an assertion about time.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from farm import wire
from farm.slot import MAX_JOBS, read_slot
from farm.sockets import Role, open_socket
from farm.worker.reader import Loaded, Reader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAIT_S = 20.0
GOLDEN = {"status": "ok", "value": [1.0, 2.0], "reason": ""}


def heard(broker: PlayedBroker, message: wire.Message) -> None:
    """The broker hears just this next. Of two tuples, equal is not enough: a claim is no bounce."""
    found = broker.hear()
    assert (type(found), found) == (type(message), message)


class PlayedBroker:
    """The broker's ends of the three sockets, and the worker's compute loop."""

    def __init__(self, directory: Path, batch_jobs: int = 0) -> None:
        self.directory = directory
        self.context: zmq.Context[Any] = zmq.Context()
        self.control = open_socket(self.context, Role.CONTROL_SERVER, self.endpoint("control"))
        self.jobs = open_socket(self.context, Role.JOBS_SENDER, self.endpoint("jobs"))
        self.results = open_socket(self.context, Role.RESULTS_RECEIVER, self.endpoint("results"))
        self.slots = directory / "slots"
        self.slots.mkdir()
        self.worker_id = 50
        self.known = True
        self.batch_jobs = batch_jobs
        self.reader = Reader(
            name="1",
            control_endpoint=self.endpoint("control"),
            device="cuda:0" if batch_jobs else "",
        )
        self.reader.set_heartbeat(0.05)
        self.reader.start()

    def endpoint(self, name: str) -> str:
        return f"ipc://{self.directory}/{name}"

    def close(self) -> None:
        self.reader.post([])  # a test that failed may have left it busy
        self.reader.drain("the test is over")
        for _ in range(int(WAIT_S * 20)):
            self.serve()
            self.reader.join(0.05)
            if not self.reader._thread.is_alive():
                break
        self.context.destroy(linger=0)

    # ---- control ----

    def serve(self, reply: wire.Message | None = None, wait_s: float = 0.0) -> wire.Message | None:
        """Answer one request, if there is one."""
        if not self.control.poll(int(wait_s * 1000)):
            return None
        identity, *frames = self.control.recv_multipart()
        request = wire.decode([frame for frame in frames if frame])
        answer = wire.Orders(self.known) if reply is None else reply
        self.control.send_multipart([identity, b"", wire.encode(answer)])
        return request

    def serve_until(self, kind: type[Any], reply: wire.Message | None = None) -> Any:
        """Answer requests until one of this kind, which gets the reply."""
        for _ in range(1000):
            assert self.control.poll(int(WAIT_S * 1000)), f"no {kind.__name__} came"
            identity, *frames = self.control.recv_multipart()
            request = wire.decode([frame for frame in frames if frame])
            is_it = isinstance(request, kind)
            answer = reply if is_it and reply is not None else wire.Orders(self.known)
            self.control.send_multipart([identity, b"", wire.encode(answer)])
            if is_it:
                return request
        raise AssertionError(f"no {kind.__name__} among 1000 requests")

    def slot_path(self) -> Path:
        return self.slots / str(self.worker_id)

    def welcome(self, slot: str | None = None) -> None:
        path = str(self.slot_path()) if slot is None else slot
        endpoints = (self.endpoint("jobs"), self.endpoint("results"))
        told = wire.Welcome(
            *(self.worker_id, *endpoints, {}, "hash", path, {"trace": b"7:"}, {}), self.batch_jobs
        )
        hello = self.serve_until(wire.Hello, told)
        assert hello.device == ("cuda:0" if self.batch_jobs else "")

    def join(self, slot: str | None = None) -> wire.Ready:
        """The worker says hello, loads its model and is ready."""
        self.welcome(slot)
        told = self.reader.welcomes.get(timeout=WAIT_S)
        assert isinstance(told, wire.Welcome)
        assert told.golden == {"trace": b"7:"}
        self.reader.ready(Loaded("m1", "h1", 0.1, GOLDEN))
        ready = self.serve_until(wire.Ready)
        assert isinstance(ready, wire.Ready)
        return ready

    # ---- jobs and results ----

    def send(self, *job_ids: int) -> None:
        jobs = tuple(
            wire.Job(j, "box/tool", str(j), 1, {"trace": b"7:"}, 1000 + j) for j in job_ids
        )
        assert self.jobs.poll(int(WAIT_S * 1000), zmq.POLLOUT), "no worker connected for jobs"
        self.jobs.send_multipart(wire.encode_jobs(wire.Jobs(jobs)))

    def send_until_claimed(self, job_id: int) -> None:
        """As the ledger does: what went into a connection that was just closing is sent again."""
        for _ in range(int(WAIT_S * 4)):
            self.send(job_id)
            if self.results.poll(250):
                heard(self, wire.Claim(self.worker_id, [job_id], [1000 + job_id]))
                return
            self.serve()
        raise AssertionError("the worker claimed nothing")

    def hear(self) -> wire.Message:
        """The next message from the worker; its heartbeats are answered meanwhile."""
        for _ in range(int(WAIT_S * 100)):
            if self.results.poll(10):
                return wire.decode(self.results.recv_multipart())
            self.serve()
        raise AssertionError("the worker sent nothing")

    def take(self) -> list[int]:
        """What the compute loop is given."""
        work = self.reader.inbox.get(timeout=WAIT_S)
        assert work is not None
        worker_id, jobs, _ = work
        assert worker_id == self.worker_id
        return [job.job_id for job in jobs]

    def wait_for_messages(self, count: int) -> None:
        """Until so many lie there for the compute loop: a claim is heard a moment before that."""
        for _ in range(int(WAIT_S * 100)):
            if self.reader.inbox.qsize() == count:
                return
            time.sleep(0.01)
        raise AssertionError(f"{self.reader.inbox.qsize()} messages, not {count}")

    def post(self, *job_ids: int) -> None:
        """What the compute loop gives back."""
        self.reader.post(
            [
                wire.encode(wire.Result(self.worker_id, j, "ok", 1, "", {}, "m1", "h1", 0.1, 0.2))
                for j in job_ids
            ]
        )

    def named(self) -> frozenset[int] | None:
        return read_slot(self.slot_path(), self.worker_id)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[PlayedBroker]:
    played = PlayedBroker(tmp_path)
    yield played
    played.close()


def test_ready_tells_of_the_golden_hole_and_the_slot_is_idle(broker: PlayedBroker) -> None:
    ready = broker.join()
    assert ready == wire.Ready(50, "m1", "h1", 0.1, GOLDEN)
    assert broker.named() == frozenset()


def test_the_slot_names_a_job_by_the_time_its_claim_comes_and_until_it_is_posted(
    broker: PlayedBroker,
) -> None:
    # prevents: a crash right after the claim that nobody is blamed for
    broker.join()
    broker.send(7)
    heard(broker, wire.Claim(50, [7], [1007]))
    assert broker.named() == frozenset({7})
    assert broker.take() == [7]
    assert broker.named() == frozenset({7})
    broker.post(7)
    assert broker.named() == frozenset()
    result = broker.hear()
    assert isinstance(result, wire.Result)
    assert result.job_id == 7


def test_the_slot_is_written_before_the_claim_is_sent(
    broker: PlayedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.join()
    named_at: list[frozenset[int] | None] = []
    send = broker.reader._send

    def look(message: wire.Message) -> None:
        named_at.append(broker.named())
        send(message)

    monkeypatch.setattr(broker.reader, "_send", look)
    broker.send(7)
    broker.hear()
    assert named_at == [frozenset({7})]
    broker.post(7)


def test_the_slot_is_cleared_before_the_results_can_be_sent(
    broker: PlayedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # prevents: a good hole blamed for a crash that came while its result was on its way
    broker.join()
    broker.send(7)
    broker.hear()
    named_at: list[frozenset[int] | None] = []
    put = broker.reader._outbox.put

    class Outbox:
        empty = broker.reader._outbox.empty
        get = broker.reader._outbox.get

        def put(self, results: list[bytes]) -> None:
            named_at.append(broker.named())
            put(results)

    monkeypatch.setattr(broker.reader, "_outbox", Outbox())
    broker.post(7)
    assert isinstance(broker.hear(), wire.Result)
    assert named_at == [frozenset()]


def test_a_busy_worker_bounces_and_its_slot_names_only_what_it_computes(
    broker: PlayedBroker,
) -> None:
    broker.join()
    broker.send(7)
    broker.hear()
    broker.send(8)
    heard(broker, wire.Bounce(50, [8], [1008]))
    assert broker.named() == frozenset({7})
    broker.post(7)


def test_a_batch_that_no_slot_can_name_is_refused_and_the_next_one_is_taken(
    broker: PlayedBroker,
) -> None:
    # no broker of this version sends it: it must not end the reader, nor be computed unmarked
    broker.join()
    broker.send(*range(MAX_JOBS + 1))
    broker.send(7, 8)
    heard(broker, wire.Claim(50, [7, 8], [1007, 1008]))
    assert broker.named() == frozenset({7, 8})
    broker.post(7, 8)


@pytest.mark.parametrize("slot", ["", "/nowhere/slots/50"])
def test_a_worker_without_a_slot_works_all_the_same(broker: PlayedBroker, slot: str) -> None:
    # it is on another host, or the disk is full: then its claims are blamed instead
    broker.join(slot)
    broker.send(7)
    heard(broker, wire.Claim(50, [7], [1007]))
    broker.post(7)
    assert isinstance(broker.hear(), wire.Result)


def test_a_worker_that_joins_again_gets_a_new_slot_and_tells_of_no_golden_hole(
    broker: PlayedBroker,
) -> None:
    # prevents: a mark in the slot of an incarnation that nobody asks for any more
    broker.join()
    former = broker.slot_path()
    broker.known = False
    broker.serve_until(wire.Heartbeat)
    broker.known, broker.worker_id = True, 51
    broker.welcome()
    assert broker.serve_until(wire.Ready) == wire.Ready(51, "m1", "h1", 0.1, {})
    assert not former.exists()
    broker.send_until_claimed(7)
    assert broker.named() == frozenset({7})
    broker.post(7)
    assert broker.named() == frozenset()


def test_a_job_that_outlives_the_membership_stays_in_its_own_slot(broker: PlayedBroker) -> None:
    # a fenced worker still hangs in its old job: the new slot must not name it, nor exist yet
    broker.join()
    broker.send(7)
    broker.hear()
    broker.known = False
    broker.serve_until(wire.Heartbeat)
    former = broker.slot_path()
    broker.worker_id = 51
    broker.welcome()
    broker.known = True
    broker.serve_until(wire.Heartbeat)
    assert not broker.slot_path().exists()
    assert read_slot(former, 50) == frozenset({7})
    broker.post(7)
    broker.serve_until(wire.Ready)
    assert broker.named() == frozenset()


def test_a_worker_whose_golden_answer_is_refused_leaves_instead_of_joining_again(
    broker: PlayedBroker,
) -> None:
    # prevents: a wrong model that is sent away and let in a second later, unchecked
    broker.welcome()
    broker.reader.welcomes.get(timeout=WAIT_S)
    broker.reader.ready(Loaded("m1", "h1", 0.1, GOLDEN))
    broker.serve_until(wire.Ready, wire.Refused("it answers 1 where 2 was answered"))
    assert isinstance(broker.hear(), wire.Bye)
    assert broker.reader.inbox.get(timeout=WAIT_S) is None
    assert broker.reader.failed


def test_a_drained_worker_leaves_with_an_idle_slot(broker: PlayedBroker) -> None:
    # the broker reads it after the end, and nobody is to blame for a worker that was told to go
    broker.join()
    broker.send(7)
    broker.hear()
    broker.reader.drain("SIGTERM")
    broker.take()
    broker.post(7)
    assert isinstance(broker.hear(), wire.Result)
    assert isinstance(broker.hear(), wire.Bye)
    assert broker.reader.inbox.get(timeout=WAIT_S) is None
    assert broker.named() == frozenset()


# ---- with a GPU ----------------------------------------------------------------------------------


@pytest.fixture
def gatherer(tmp_path: Path) -> Iterator[PlayedBroker]:
    """Of a worker with a GPU, whose batches have up to 20 jobs."""
    played = PlayedBroker(tmp_path, batch_jobs=20)
    yield played
    while (
        len(played.reader._hand) and played.reader._thread.is_alive()
    ):  # a test that failed may have left some
        played.reader.post([b""] * len(played.reader._hand))
        played.reader.join(0.05)
    played.close()


def test_one_with_a_gpu_claims_while_it_computes_and_its_slot_names_what_it_has_begun(
    gatherer: PlayedBroker,
) -> None:
    """A GPU that is fed by single messages; holes blamed that only waited behind its batch."""
    broker = gatherer
    broker.join()
    broker.send(*range(16))
    heard(broker, wire.Claim(50, list(range(16)), list(range(1000, 1016))))
    assert broker.named() == frozenset()  # the compute loop has not begun: it is nobody's fault
    first = broker.reader.next_batch()
    assert first is not None
    assert [job.job_id for job in first.jobs] == list(range(16))
    assert broker.named() == frozenset(range(16))
    broker.send(16, 17)
    heard(broker, wire.Claim(50, [16, 17], [1016, 1017]))
    broker.send(18)
    heard(broker, wire.Claim(50, [18], [1018]))
    assert broker.named() == frozenset(range(16))
    broker.post(*range(16))
    assert broker.named() == frozenset()
    broker.wait_for_messages(2)
    second = broker.reader.next_batch()
    assert second is not None
    assert [job.job_id for job in second.jobs] == [16, 17, 18]
    assert broker.named() == frozenset({16, 17, 18})
    broker.post(16, 17, 18)
    for job_id in range(19):
        if job_id in (0, 16):
            frames = hear_frames(broker)
        result = wire.decode([frames.pop(0)])
        assert isinstance(result, wire.Result)
        assert result.job_id == job_id


def hear_frames(broker: PlayedBroker) -> list[bytes]:
    """The results of a batch come together."""
    assert broker.results.poll(int(WAIT_S * 1000))
    return broker.results.recv_multipart()


def test_one_with_a_gpu_bounces_what_it_has_no_room_for_or_has_already(
    gatherer: PlayedBroker,
) -> None:
    """A worker that hoards without bounds; a hole that is computed twice, as its claim was late."""
    broker = gatherer
    broker.join()
    for begin in (0, 16):
        ids = list(range(begin, begin + 16))
        broker.send(*ids)
        heard(broker, wire.Claim(50, ids, [1000 + j for j in ids]))
    broker.send(5)
    heard(broker, wire.Bounce(50, [5], [1005]))
    ids = list(range(32, 41))  # 41 are more than two batches
    broker.send(*ids)
    heard(broker, wire.Bounce(50, ids, [1000 + j for j in ids]))
    broker.send(*ids[:8])
    heard(broker, wire.Claim(50, ids[:8], [1000 + j for j in ids[:8]]))
    sizes = []
    while len(broker.reader._hand):
        batch = broker.reader.next_batch()
        assert batch is not None
        sizes.append(len(batch.jobs))
        broker.post(*(job.job_id for job in batch.jobs))
        assert len(hear_frames(broker)) == sizes[-1]
    assert sizes == [16, 16, 8]  # messages are not torn apart: 32 would be too many


def test_one_with_a_gpu_that_is_to_leave_finishes_all_that_it_holds(
    gatherer: PlayedBroker,
) -> None:
    """Holes that have to wait for a deadline, since a worker left with them."""
    broker = gatherer
    broker.join()
    broker.send(1)
    broker.hear()
    assert broker.reader.next_batch() is not None
    broker.send(2)
    broker.hear()
    broker.reader.drain("SIGTERM")
    broker.post(1)
    assert isinstance(broker.hear(), wire.Result)
    assert broker.reader.next_batch() is not None
    broker.post(2)
    assert isinstance(broker.hear(), wire.Result)
    assert isinstance(broker.hear(), wire.Bye)
    assert broker.reader.next_batch() is None
    assert broker.named() == frozenset()


def test_one_whose_gpu_broke_says_so_and_leaves_its_slot_marked(gatherer: PlayedBroker) -> None:
    """A hole that breaks one GPU after the other, and is never found out; results of the batch
    before that are lost with the process.
    """
    broker = gatherer
    broker.join()
    broker.send(1)
    heard(broker, wire.Claim(50, [1], [1001]))
    assert broker.reader.next_batch() is not None
    broker.send(2, 3)
    heard(broker, wire.Claim(50, [2, 3], [1002, 1003]))
    broker.post(1)
    assert broker.reader.next_batch() is not None
    broker.reader.give_up("cuda:0 computes nothing any more")
    assert isinstance(broker.hear(), wire.Result)
    heard(broker, wire.Bye(50, "cuda:0 computes nothing any more"))
    broker.reader.join(WAIT_S)
    assert broker.reader.failed
    assert broker.named() == frozenset({2, 3})
