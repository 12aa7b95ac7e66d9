"""The way of a hole through the broker, without any I/O. Times are monotonic seconds."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import messages
import pytest
from fakes import FakeAdapter, FakeAnswerer, FakeJournal, make_flow, payload
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from shots import around
from structlog.testing import capture_logs

from farm import wire
from farm.broker import snapshot
from farm.broker.answers import MAX_NAMES
from farm.broker.dispatcher import FEW_LATE, pack
from farm.broker.ledger import ORPHAN_GRACE_S
from farm.broker.roster import Worker, WorkerState
from farm.config import Config
from farm.drilling.adapter import OpcUaAdapter

if TYPE_CHECKING:
    from farm.adapter import Adapter, Answer

TOOL = "box/tool"


class Rig:
    """A flow with its surroundings played: MQTT in and out, the wire, a clock."""

    def __init__(
        self, adapter: Adapter | None = None, journal: FakeJournal | None = None, **changes: Any
    ) -> None:
        changes.setdefault("correlation", {"optional_parts": "never"})
        changes.setdefault("dead_letters", {"publish": False})
        self.config = Config.model_validate(changes)
        self.adapter = adapter or FakeAdapter()
        self.journal = journal or FakeJournal()
        self.slots: dict[int, frozenset[int]] = {}
        self.flow = make_flow(self.config, self.adapter, journal=self.journal, slots=self.slots)
        self.now_s = 0.0
        self.wire: list[int] = []  # job ids on the wire, in the order they were sent
        self.published: list[tuple[str, bytes]] = []
        self._pids = itertools.count(1)
        self._mids = itertools.count(1)

    def arrive(self, topic: str, data: bytes) -> None:
        now_s = self.now_s
        self.flow.arrived(topic, data, arrived_s=now_s, intake_s=now_s, now_s=now_s)

    def part(self, kind: str, part_id: str | None, text: str = "", source: str = TOOL) -> None:
        self.arrive(f"{source}/{kind}", payload(part_id, text))

    def hole(self, part_id: str, text: str = "", source: str = TOOL) -> None:
        self.part("result", part_id, text, source)
        self.part("trace", part_id, text, source)

    def hire(self) -> Worker:
        pid = next(self._pids)
        worker = self.flow.roster.hello(
            name=str(pid), host="here", pid=pid, local=True, now_s=self.now_s
        )
        self.flow.dispatcher.ready(worker, wire.Ready(worker.worker_id, "m1", "h1", 0.1, {}))
        return worker

    def dispatch(self) -> list[int]:
        """Send what the credit allows; returns the job ids."""
        sent = []
        while batch := self.flow.dispatcher.next_jobs(self.now_s):
            ids = [entry.job_id for entry in batch]
            assert [job.job_id for job in pack(batch).jobs] == ids
            self.flow.dispatcher.sent(batch, self.now_s)
            sent += ids
        self.wire += sent
        return sent

    def claim(self, worker: Worker, job_id: int) -> None:
        self.flow.dispatcher.claimed(wire.Claim(worker.worker_id, [job_id]), self.now_s)

    def finish(
        self, worker: Worker, job_id: int, value: Any = 1, status: str = "ok", reason: str = ""
    ) -> None:
        result = wire.Result(
            worker.worker_id, job_id, status, value, reason, {}, "m1", "h1", 0.1, 0.2
        )
        self.flow.dispatcher.finished(result, self.now_s)

    def compute(self, worker: Worker, value: Any = 1) -> None:
        """The worker takes one job off the wire and finishes it."""
        self.dispatch()
        job_id = self.wire.pop(0)
        self.claim(worker, job_id)
        self.finish(worker, job_id, value)

    def publish(self, refusal: str | None = None) -> list[str]:
        """Publish and confirm everything; returns the payloads."""
        texts = []
        while (publication := self.flow.publication(self.now_s)) is not None:
            mid = next(self._mids)
            self.flow.outbox.sent(mid)
            texts.append(publication.payload.decode())
            self.published.append((publication.topic, publication.payload))
            if letter := self.flow.outbox.confirmed(mid, refusal):
                self.flow.delivered(letter, self.now_s)
        return texts

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        self.flow.expire(self.now_s, self.now_s)
        self.flow.dispatcher.reclaim(self.now_s)

    @property
    def ends(self) -> dict[str, int]:
        return {terminal.value: n for terminal, n in self.flow.terminals.items()}


@pytest.fixture
def rig() -> Rig:
    return Rig()


# ---- the main way --------------------------------------------------------------------------------


def test_a_hole_goes_in_as_two_messages_and_out_as_one_answer(rig: Rig) -> None:
    worker = rig.hire()
    rig.hole("7")
    rig.compute(worker, "42 mm")
    assert rig.flow.unanswered == 1  # until MQTT has confirmed it
    assert rig.publish() == ["7 ok 42 mm"]
    assert rig.flow.unanswered == 0
    assert rig.ends == {"published": 1}
    assert rig.published[0][0] == "out/box/tool"


def test_the_worker_gets_the_raw_bytes_and_the_attempt(rig: Rig) -> None:
    rig.hire()
    rig.hole("7", "raw \u00ff")
    [job] = pack(rig.flow.dispatcher.next_jobs(rig.now_s)).jobs
    assert (job.source, job.part_id, job.attempt) == (TOOL, "7", 1)
    assert job.parts == {"result": payload("7", "raw \u00ff"), "trace": payload("7", "raw \u00ff")}


def test_the_real_traffic_of_a_drilled_hole_is_answered_with_its_depths() -> None:
    config = Config()
    rig = Rig(OpcUaAdapter(config))
    worker = rig.hire()
    parts = messages.parts()
    rig.arrive("OPCPUBSUB/box/UNIT-1/AssetManagement/Heads", parts["heads"])
    rig.arrive("OPCPUBSUB/box/UNIT-1/ResultManagement/Trace", parts["trace"])
    rig.arrive("OPCPUBSUB/box/UNIT-1/ResultManagement", parts["result"])
    [job_id] = rig.dispatch()
    rig.claim(worker, job_id)
    entry = rig.flow.ledger.get(job_id)
    assert entry is not None
    assert entry.key == ("box/UNIT-1", "440")
    assert entry.payloads == parts
    provenance = dict(rig.adapter.describe(entry.payloads))
    value = {"keypoints_mm": [2.0, 6.0, 10.0]}
    result = wire.Result(
        worker.worker_id, job_id, "ok", value, "", provenance, "m1", "h1", 0.1, 0.2
    )
    rig.flow.dispatcher.finished(result, 0.1)
    answers = [json.loads(text) for text in rig.publish()]
    assert sorted(str(answer["Value"]) for answer in answers) == ["[2.0, 6.0, 10.0]", "[4.0, 4.0]"]
    assert {answer["ResultId"] for answer in answers} == {"440"}
    assert {answer["HeadId"] for answer in answers} == {"E0-TEST"}
    assert {(answer["AlgoVersion"], answer["ModelHash"]) for answer in answers} == {("m1", "h1")}
    assert rig.ends == {"published": 1}


@pytest.mark.parametrize(
    ("status", "terminal", "text"),
    [
        ("insufficient", "insufficient", "7 insufficient too few steps"),
        ("failed", "dead", "7 failed too few steps"),
        ("nonsense", "dead", "7 failed The worker ended with the unknown status nonsense"),
    ],
)
def test_every_way_to_end_is_published(rig: Rig, status: str, terminal: str, text: str) -> None:
    worker = rig.hire()
    rig.hole("7")
    [job_id] = rig.dispatch()
    rig.claim(worker, job_id)
    rig.finish(worker, job_id, None, status, "too few steps")
    assert rig.publish() == [text]
    assert rig.ends == {terminal: 1}


def test_a_hole_kept_back_by_policy_ends_at_once_and_is_counted(rig: Rig) -> None:
    rig.hole("7")
    rig.compute(rig.hire(), "skip")
    assert rig.ends == {"skipped": 1}
    assert rig.publish() == []
    assert rig.flow.said["skipped_holes"] == 1


def test_answers_of_one_tool_keep_their_order_although_worker_2_is_faster(rig: Rig) -> None:
    slow, fast = rig.hire(), rig.hire()
    rig.hole("1")
    rig.hole("2")
    rig.hole("3", source="box/other")
    first, other = rig.dispatch()  # the tools take turns
    rig.claim(slow, first)
    rig.claim(fast, other)
    rig.finish(fast, other, "other tool")
    rig.wire.clear()
    rig.compute(fast, "fast")
    assert rig.publish() == ["3 ok other tool"]  # which does not wait
    rig.finish(slow, first, "slow")
    assert rig.publish() == ["1 ok slow", "2 ok fast"]


def test_the_times_of_the_stages_are_those_of_the_hole(rig: Rig) -> None:
    rig.part("result", "7")
    rig.now_s = 2.0
    rig.part("trace", "7")
    rig.now_s = 5.0
    worker = rig.hire()
    [job_id] = rig.dispatch()
    rig.now_s = 6.0
    rig.claim(worker, job_id)
    rig.now_s = 10.0
    rig.finish(worker, job_id)
    rig.now_s = 11.0
    rig.publish()
    shown = {stage: histogram.max_s for stage, histogram in rig.flow.stages.items()}
    assert shown == {
        "pairing": 2.0,
        "queue": 3.0,
        "transport": 1.0,
        "reading": 0.1,
        "inference": 0.2,
        "publishing": 1.0,
        "total": 9.0,  # from the last message in to the answer out
    }


def test_times_are_right_although_the_intake_clock_stood_still_for_hours(rig: Rig) -> None:
    # joins wait on the intake clock, latencies are told in real time
    rig.now_s = 9000.0
    for kind, arrived_s, intake_s in (("result", 9000.0, 12.0), ("trace", 9003.0, 15.0)):
        rig.flow.arrived(
            f"{TOOL}/{kind}", payload("7"), arrived_s=arrived_s, intake_s=intake_s, now_s=9004.0
        )
    worker = rig.hire()
    rig.now_s = 9005.0
    rig.compute(worker)
    rig.publish()
    assert rig.flow.stages["pairing"].max_s == 4.0  # until it is in the backlog
    assert rig.flow.stages["total"].max_s == 2.0


def test_the_throughput_counts_holes_and_not_messages(rig: Rig) -> None:
    worker = rig.hire()
    rig.hole("1")
    rig.hole("2")
    assert (rig.flow.monitor.arrived_total, rig.flow.monitor.processed_total) == (2, 0)
    assert rig.flow.backlog(rig.now_s) == 2
    rig.dispatch()
    assert rig.flow.backlog(rig.now_s) == 2  # what is on the wire is not computed yet
    rig.compute(worker)
    assert rig.flow.backlog(rig.now_s) == 1
    rig.publish()
    assert (rig.flow.monitor.arrived_total, rig.flow.monitor.processed_total) == (2, 1)
    assert (rig.flow.counts["parts"], worker.jobs_done) == (4, 1)


def test_answers_that_mqtt_does_not_confirm_are_backlog(rig: Rig) -> None:
    # a broker with a stuck disk once left 495 holes open while the farm called itself HEALTHY
    worker = rig.hire()
    rig.hole("1")
    rig.compute(worker)
    assert rig.flow.publication(rig.now_s) is not None
    assert rig.flow.backlog(rig.now_s) == 0  # a confirmation may take its time …
    assert rig.flow.backlog(rig.now_s + 5.0) == 1  # … but not for ever
    rig.publish()
    assert rig.flow.backlog(rig.now_s + 5.0) == 0


def test_an_answerer_raises_no_count_of_the_broker_and_few_of_its_own() -> None:
    # prevents: arrived holes of which half never were, and a dict that grows with every answer
    class Counting(FakeAnswerer):
        def answer(self, finished: Any, now_s: float) -> Answer:
            made = super().answer(finished, now_s)
            return made._replace(counts=("holes", "rejected", f"of {finished.part_id}"))

    rig = Rig(FakeAdapter(made=Counting()))
    worker = rig.hire()
    for number in range(200):
        rig.hole(str(number))
        rig.compute(worker)
        rig.publish()
    assert (rig.flow.counts["holes"], rig.flow.counts["rejected"]) == (200, 0)
    assert len(rig.flow.said) <= MAX_NAMES + 1
    shot = snapshot.build(rig.flow, around(), now_s=rig.now_s, started_s=0.0)
    assert shot["holes"]["arrived"] == 200
    counts = shot["counts"]
    assert (counts["answerer_holes"], counts["answerer_rejected"]) == (200, 200)
    assert counts.get("rejected", 0) == 0
    assert sum(rig.flow.said.values()) == 3 * 200  # those beyond are counted as one


def test_an_alert_is_counted() -> None:
    rig = Rig(FakeAdapter(made=FakeAnswerer(alert="five negative depths in a row")))
    rig.hole("7")
    rig.compute(rig.hire())
    assert rig.flow.counts["alerts"] == 1


# ---- what comes in wrong -------------------------------------------------------------------------


def test_topics_that_are_not_ours_are_counted_and_nothing_else(rig: Rig) -> None:
    rig.arrive("box/tool/servos", b"7:")
    assert rig.flow.counts == Counter(foreign_topics=1)


def test_an_unreadable_message_is_answered_with_an_error_and_is_no_hole(rig: Rig) -> None:
    rig.arrive("box/tool/result", b"rubbish")
    assert rig.publish() == ["result rejected: The result message has no colon"]
    assert rig.flow.counts["rejected"] == 1
    assert (rig.flow.unanswered, rig.ends) == (0, {})


def test_a_message_over_the_limit_is_refused_before_it_is_read() -> None:
    rig = Rig(limits={"message_bytes": 1000})
    rig.arrive("box/tool/trace", b"explodes".ljust(1001))
    assert rig.publish() == [
        "trace rejected: The trace message has 1001 bytes, at most 1000 are taken"
    ]
    assert len(rig.flow.correlator.buffer) == 0


def test_a_required_message_without_an_id_is_refused_and_does_not_end_the_broker(rig: Rig) -> None:
    rig.part("result", None)
    assert "does not say what it belongs to" in rig.publish()[0]


def test_an_adapter_that_raises_costs_the_message_and_not_the_broker(rig: Rig) -> None:
    # it would come again after the restart, and end the broker again
    rig.arrive("box/tool/result", b"explodes")
    rig.arrive("box/tool/explodes", b"7:")
    assert rig.publish() == ["result rejected: The adapter failed: RuntimeError: the reader broke"]
    assert rig.flow.counts["adapter_failures"] == 2


def test_an_answerer_that_fails_on_a_hole_answers_it_as_failed() -> None:
    rig = Rig(FakeAdapter(made=FakeAnswerer(fails_on="odd")))
    rig.hole("7")
    rig.compute(rig.hire(), "odd")
    [text] = rig.publish()
    assert text.startswith("7 failed The answer could not be worded: RuntimeError")
    assert rig.ends == {"dead": 1}


def test_an_answerer_that_always_fails_leaves_no_hole_open() -> None:
    rig = Rig(FakeAdapter(made=FakeAnswerer(fails_always=True)))
    rig.hole("7")
    rig.compute(rig.hire())
    rig.arrive("box/tool/result", b"rubbish")
    assert rig.publish() == []
    assert (rig.flow.unanswered, rig.ends) == (0, {"dead": 1})
    assert rig.flow.counts["answerer_failures"] == 3  # the answer, its replacement, the rejection


def test_a_duplicate_is_published_as_an_error_where_that_is_the_policy() -> None:
    rig = Rig(mqtt={"listener": {"duplicate_handling": "error"}})
    rig.part("result", "7", "a")
    rig.part("result", "7", "b")
    assert rig.publish() == ["result rejected: Duplicate result for result id 7"]
    assert rig.flow.counts["holes"] == 0


def test_unpaired_parts_expire_exactly_once_as_a_published_error(rig: Rig) -> None:
    rig.part("result", "7")
    rig.pass_time(30.0)
    rig.pass_time(30.0)
    assert rig.publish() == ["7 failed Not paired: no trace arrived within 30 s (present: result)"]
    assert rig.ends == {"dead": 1}
    assert rig.flow.counts["holes"] == 1


def test_a_message_that_never_came_is_no_slow_answer(rig: Rig) -> None:
    # prevents: "one answer in a hundred takes 30 s" where the farm is quick and a gateway drops
    rig.part("result", "7")
    rig.pass_time(30.0)
    rig.publish()
    assert rig.ends == {"dead": 1}
    assert rig.flow.stages["total"].cumulative().total == 0
    assert rig.flow.stages["publishing"].cumulative().total == 1  # its error went out as any other


def test_an_expired_hole_that_can_not_be_described_is_answered_all_the_same(rig: Rig) -> None:
    rig.part("result", "7", "undescribed")
    rig.pass_time(30.0)
    assert len(rig.publish()) == 1
    assert rig.flow.counts["adapter_failures"] == 1


def test_nothing_expires_while_the_intake_clock_stands_still(rig: Rig) -> None:
    rig.part("result", "7")
    rig.flow.expire(9999.0, 10.0)
    assert rig.flow.correlator.buffer.open_joins == 1


def test_an_error_takes_its_place_in_the_order_of_its_tool(rig: Rig) -> None:
    worker = rig.hire()
    rig.hole("1")
    [job_id] = rig.dispatch()
    rig.claim(worker, job_id)
    rig.part("result", "2")
    rig.pass_time(30.0)
    assert rig.publish() == []
    rig.finish(worker, job_id)
    assert [text.split()[:2] for text in rig.publish()] == [["1", "ok"], ["2", "failed"]]


def test_a_stop_computes_what_is_complete_and_leaves_the_rest_to_the_journal(rig: Rig) -> None:
    # each restart under load once turned good holes into errors, and their late halves into more
    rig.hole("1")
    rig.part("result", "2")
    rig.flow.suspend(1.0, 1.0)
    rig.compute(rig.hire())
    assert [text[:8] for text in rig.publish()] == ["1 ok 1"]
    assert (rig.flow.unanswered, len(rig.flow.correlator.buffer)) == (0, 0)


# ---- workers -------------------------------------------------------------------------------------


def test_credit_is_one_job_for_each_idle_worker(rig: Rig) -> None:
    for number in "123":
        rig.hole(number)
    assert rig.dispatch() == []
    worker = rig.hire()
    rig.hire()
    assert len(rig.dispatch()) == 2
    rig.claim(worker, rig.wire[0])
    assert rig.dispatch() == []  # one is idle, and one is on its way to it


def test_a_loading_worker_gets_nothing(rig: Rig) -> None:
    rig.flow.roster.hello(name="1", host="here", pid=1, local=True, now_s=0.0)
    rig.hole("7")
    assert rig.dispatch() == []


def test_a_claim_that_overtakes_ready_does_not_make_a_busy_worker_idle(rig: Rig) -> None:
    # READY and CLAIM come on two sockets; credit for a busy worker is a job that only bounces
    first = rig.hire()
    rig.hole("7")
    [job_id] = rig.dispatch()
    early = rig.flow.roster.hello(name="2", host="here", pid=2, local=True, now_s=0.0)
    rig.claim(early, job_id)
    rig.flow.dispatcher.ready(early, wire.Ready(early.worker_id, "m1", "h1", 0.1, {}))
    assert early.state is WorkerState.BUSY
    rig.finish(early, job_id)
    assert (early.state, rig.flow.roster.idle) == (WorkerState.IDLE, 2)
    assert first.state is WorkerState.IDLE


def test_a_bounced_job_is_sent_again_first(rig: Rig) -> None:
    worker = rig.hire()
    rig.hole("1")
    rig.hole("2")
    [job_id] = rig.dispatch()
    rig.flow.dispatcher.bounced(wire.Bounce(worker.worker_id, [job_id]), 4.0)
    assert worker.heard_s == 4.0  # a sign of life like any other
    assert rig.dispatch() == [job_id]
    assert rig.flow.counts["bounces"] == 1


def test_a_job_whose_worker_died_goes_to_the_head_and_is_answered_once(rig: Rig) -> None:
    doomed, heir = rig.hire(), rig.hire()
    for number in "123":
        rig.hole(number)
    lost, other = rig.dispatch()
    rig.claim(doomed, lost)
    rig.claim(heir, other)
    rig.flow.dispatcher.worker_gone(doomed, "killed by SIGKILL", 1.0)
    rig.finish(heir, other)
    assert rig.dispatch() == [lost]
    rig.claim(heir, lost)
    rig.finish(heir, lost)
    assert [text[0] for text in rig.publish()] == ["1", "2"]


def test_a_job_swallowed_by_a_dying_worker_is_sent_again_soon(rig: Rig) -> None:
    doomed = rig.hire()
    rig.hire()
    rig.hole("7")
    [job_id] = rig.dispatch()  # into the queue of the worker that dies, unclaimed
    rig.flow.dispatcher.worker_gone(doomed, "killed by SIGKILL", 0.0)
    rig.pass_time(ORPHAN_GRACE_S)
    assert rig.dispatch() == [job_id]
    assert rig.flow.counts["reclaimed"] == 1


def test_a_late_result_of_a_fenced_worker_is_suppressed(rig: Rig) -> None:
    frozen, heir = rig.hire(), rig.hire()
    rig.hole("7")
    [job_id] = rig.dispatch()
    rig.claim(frozen, job_id)
    rig.flow.dispatcher.worker_gone(frozen, "silent for 5.1 s", 6.0)
    rig.dispatch()
    rig.claim(heir, job_id)
    rig.finish(heir, job_id, "of the heir")
    rig.finish(frozen, job_id, "too late")
    assert rig.publish() == ["7 ok of the heir"]
    assert rig.flow.counts["late_results"] == 1
    assert rig.ends == {"published": 1}


@pytest.mark.parametrize(("key", "is_told"), [("line-7", True), ("", False)])
def test_a_far_worker_whose_work_is_for_nothing_is_told_of(
    rig: Rig, key: str, *, is_told: bool
) -> None:
    """Machines across a slow link that compute day and night and never in time: nobody knew."""
    far, near = rig.hire(), rig.hire()
    far.key = key
    with capture_logs() as told:
        for n in range(2 * FEW_LATE):
            rig.hole(str(n))
            [job_id] = rig.dispatch()
            rig.claim(near, job_id)
            rig.claim(far, job_id)
            rig.finish(near, job_id, "in time")
            rig.finish(far, job_id, "too late")
    [*late] = [line for line in told if line["event"] == "results_too_late"]
    assert [line["worker"] for line in late] == [far.name] * is_told
    assert all("claim_timeout_s" in line["cure"] for line in late)


def test_only_bounces_of_a_worker_that_is_busy_are_our_doing(rig: Rig) -> None:
    """Bounces without any bound for whoever has a key: of jobs that it has bounced before, or since
    it takes none at all.
    """
    far, dispatcher = rig.hire(), rig.flow.dispatcher
    far.key = "line-7"
    rig.hole("1")
    [first] = rig.dispatch()
    assert dispatcher.bounced(wire.Bounce(far.worker_id, [first]), rig.now_s) == ""
    [first] = rig.dispatch()
    rig.claim(far, first)
    rig.hire()
    rig.hole("2")
    [second] = rig.dispatch()
    bounce = wire.Bounce(far.worker_id, [second])
    assert dispatcher.bounced(bounce, rig.now_s) == "line-7"
    assert dispatcher.bounced(bounce, rig.now_s) == ""
    assert dispatcher.bounced(wire.Bounce(4711, rig.dispatch()), rig.now_s) == ""


def test_results_that_are_sent_again_after_a_cut_are_none_that_came_too_late(rig: Rig) -> None:
    """A warning that a worker is of no use, after each reconnect of one that does all the work."""
    far = rig.hire()
    far.key = "line-7"
    with capture_logs() as told:
        done = []
        for n in range(3 * FEW_LATE):
            rig.hole(str(n))
            done += rig.dispatch()
            rig.claim(far, done[-1])
            rig.finish(far, done[-1])
        for job_id in done:  # its heartbeat was not answered in time
            rig.finish(far, job_id)
        rig.flow.dispatcher.worker_gone(far, "silent for 5.2 s", rig.now_s)
        back = rig.hire()
        back.key = "line-7"
        for job_id in done:
            rig.finish(back, job_id)
    assert rig.flow.counts["late_results"] == 2 * len(done)
    assert [line for line in told if line["event"] == "results_too_late"] == []


def test_the_result_of_a_fenced_worker_counts_when_it_is_the_first(rig: Rig) -> None:
    frozen, heir = rig.hire(), rig.hire()
    rig.hole("7")
    [job_id] = rig.dispatch()
    rig.claim(frozen, job_id)
    rig.flow.dispatcher.worker_gone(frozen, "silent for 5.1 s", 6.0)
    rig.finish(frozen, job_id, "thawed")
    assert rig.dispatch() == []
    assert rig.publish() == ["7 ok thawed"]
    assert heir.state is WorkerState.IDLE


def test_a_claim_of_a_fenced_worker_does_not_hold_the_job(rig: Rig) -> None:
    frozen = rig.hire()
    rig.hire()
    rig.hole("7")
    [job_id] = rig.dispatch()
    rig.flow.dispatcher.worker_gone(frozen, "silent", 0.0)
    rig.claim(frozen, job_id)
    assert rig.flow.counts["late_claims"] == 1
    rig.pass_time(1.0)
    assert rig.dispatch() == [job_id]


def test_a_hole_that_ends_three_workers_is_answered_with_an_error(rig: Rig) -> None:
    rig.hole("poison")
    rig.hole("good")
    for _ in range(3):
        worker = rig.hire()
        [job_id] = rig.dispatch()
        rig.claim(worker, job_id)
        rig.flow.dispatcher.worker_gone(worker, "killed by SIGSEGV", 1.0)
    rig.wire.clear()
    rig.compute(rig.hire())
    poison, good = rig.publish()
    assert poison.startswith("poison failed Gave up: 3 workers in a row ended")
    assert "killed by SIGSEGV" in poison
    assert len(rig.flow.ledger) == 0
    assert good == "good ok 1"
    assert rig.ends == {"dead": 1, "published": 1}


def test_a_silent_worker_is_fenced_once_with_the_cause(rig: Rig) -> None:
    rig.now_s = 100.0
    worker = rig.hire()
    assert rig.flow.dispatcher.faults.faulty(105.0) == []
    assert rig.flow.dispatcher.faults.faulty(105.5) == [(worker, "silent for 5.5 s")]
    rig.flow.dispatcher.worker_gone(worker, "silent", 105.5)
    assert rig.flow.dispatcher.faults.faulty(109.0) == []


def test_a_worker_that_takes_too_long_is_named_with_its_hole_and_the_knob(rig: Rig) -> None:
    worker = rig.hire()
    rig.hole("7")
    [job_id] = rig.dispatch()
    rig.claim(worker, job_id)
    rig.flow.roster.heard(worker.worker_id, 10.0)
    assert rig.flow.dispatcher.faults.faulty(10.0) == [
        (worker, "over 10 s on box/tool/7; see dispatch.job_timeout_s and _factor")
    ]


def test_a_worker_that_hangs_on_a_hole_answered_by_another_is_found_as_well(rig: Rig) -> None:
    # the job is gone from the ledger: its deadline would never be noticed, nor the worker replaced
    hung, heir = rig.hire(), rig.hire()
    rig.hole("7")
    [job_id] = rig.dispatch()
    rig.pass_time(1.0)
    rig.dispatch()  # nobody claimed it in time: it is sent again, and both get it
    rig.claim(hung, job_id)
    rig.claim(heir, job_id)
    rig.finish(heir, job_id)
    for worker in (hung, heir):
        rig.flow.roster.heard(worker.worker_id, 11.5)
    [(found, cause)] = rig.flow.dispatcher.faults.faulty(11.5)
    assert found is hung
    assert "another worker has answered" in cause


# ---- MQTT out, and the brake ---------------------------------------------------------------------


def test_an_answer_that_mqtt_refuses_is_a_dead_letter_not_a_success(rig: Rig) -> None:
    rig.hole("7")
    rig.compute(rig.hire())
    rig.publish(refusal="Not authorized")
    assert rig.ends == {"dead": 1}
    assert rig.flow.counts["refused_publications"] == 1


def test_a_refused_rejection_is_no_hole(rig: Rig) -> None:
    rig.arrive("box/tool/result", b"rubbish")
    rig.publish(refusal="Not authorized")
    assert rig.ends == {}
    assert rig.flow.counts["refused_publications"] == 1


def test_an_answer_too_large_for_mqtt_ends_the_hole_and_blocks_nothing(rig: Rig) -> None:
    rig.flow.outbox.max_packet_bytes = 200
    worker = rig.hire()
    rig.hole("1")
    rig.hole("2")
    rig.compute(worker, "x" * 300)
    rig.compute(worker, "small")
    assert rig.publish() == ["2 ok small"]
    assert rig.ends == {"dead": 1, "published": 1}


def test_the_brake_goes_on_with_the_open_holes_and_off_with_their_answers() -> None:
    rig = Rig(overload={"max_open_jobs": 2})
    worker = rig.hire()
    rig.hole("1")
    assert not rig.flow.is_full
    rig.hole("2")
    assert rig.flow.is_full
    rig.compute(worker)
    assert rig.flow.is_full  # an answer that nobody has confirmed is still ours
    rig.publish()
    assert not rig.flow.is_full


def test_the_brake_counts_bytes() -> None:
    rig = Rig(overload={"max_open_bytes": 1000}, limits={"message_bytes": 1000})
    rig.hole("1", "x" * 600)
    assert rig.flow.is_full


def test_a_flood_of_rubbish_brakes_before_its_error_messages_fill_the_memory() -> None:
    rig = Rig(overload={"max_open_jobs": 10})
    for _ in range(39):
        rig.arrive("box/tool/result", b"rubbish")
    assert not rig.flow.is_full
    rig.arrive("box/tool/result", b"rubbish")
    assert rig.flow.is_full
    rig.publish()
    assert not rig.flow.is_full


def test_two_lives_of_the_broker_never_share_ids_of_jobs_or_workers() -> None:
    # a result for the broker before the restart must not be taken for one of ours
    ids = set()
    for life in range(20):
        journal = FakeJournal()
        journal.life = life
        rig = Rig(journal=journal)
        worker = rig.hire()
        rig.hole("7")
        ids |= {worker.worker_id, *rig.dispatch()}
    assert len(ids) == 40


# ---- any history ---------------------------------------------------------------------------------


class FlowMachine(RuleBasedStateMachine):
    """Any order of messages, claims, bounces, deaths, results, losses and confirmations."""

    sources = st.sampled_from(["box/a", "box/b"])
    pick = st.integers(0, 99)

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(
            correlation={"optional_parts": "auto"},
            mqtt={"broker": {"max_inflight": 2}, "listener": {"max_buffer_size": 6}},
        )
        self.workers: list[Worker] = []
        self.gone: list[Worker] = []
        self.ids = itertools.count(1)

    # -- MQTT

    @rule(source=sources)
    def hole(self, source: str) -> None:
        self.rig.hole(str(next(self.ids)), source=source)

    @rule(source=sources, kind=st.sampled_from(["result", "trace", "heads"]), old=st.booleans())
    def part(self, source: str, kind: str, old: bool) -> None:
        self.rig.part(kind, "1" if old else str(next(self.ids)), source=source)

    @rule(source=sources, kind=st.sampled_from(["result", "heads"]))
    def odd_part(self, source: str, kind: str) -> None:
        self.rig.part(kind, None, source=source)

    @rule(count=st.integers(1, 3), refusal=st.sampled_from([None, None, "Not authorized"]))
    def publish(self, count: int, refusal: str | None) -> None:
        for _ in range(count):
            publication = self.rig.flow.publication(self.rig.now_s)
            if publication is None:
                return
            mid = next(self.rig._mids)
            self.rig.flow.outbox.sent(mid)
            self.rig.published.append((publication.topic, publication.payload))
            if letter := self.rig.flow.outbox.confirmed(mid, refusal):
                self.rig.flow.delivered(letter, self.rig.now_s)

    # -- workers

    @precondition(lambda self: len(self.workers) < 3)
    @rule()
    def hire(self) -> None:
        self.workers.append(self.rig.hire())

    @rule()
    def dispatch(self) -> None:
        self.rig.dispatch()

    @precondition(lambda self: self.workers and self.rig.wire)
    @rule(pick=pick, job=pick)
    def take_off_the_wire(self, pick: int, job: int) -> None:
        worker = self.workers[pick % len(self.workers)]
        job_id = self.rig.wire.pop(job % len(self.rig.wire))
        if worker.current is None:
            self.rig.claim(worker, job_id)
        else:
            self.rig.flow.dispatcher.bounced(
                wire.Bounce(worker.worker_id, [job_id]), self.rig.now_s
            )

    @precondition(lambda self: self.rig.wire)
    @rule(job=pick)
    def lose_off_the_wire(self, job: int) -> None:
        self.rig.wire.pop(job % len(self.rig.wire))

    @precondition(lambda self: self.workers)
    @rule(pick=pick, status=st.sampled_from(["ok", "ok", "insufficient", "failed", "nonsense"]))
    def finish(self, pick: int, status: str) -> None:
        worker = self.workers[pick % len(self.workers)]
        if worker.current is not None:
            self.rig.finish(worker, worker.current, "value", status, "reason")

    @precondition(lambda self: self.workers)
    @rule(pick=pick)
    def die(self, pick: int) -> None:
        worker = self.workers.pop(pick % len(self.workers))
        self.gone.append(worker)
        self.rig.flow.dispatcher.worker_gone(worker, "killed", self.rig.now_s)

    @precondition(lambda self: self.gone)
    @rule(pick=pick)
    def speak_from_the_grave(self, pick: int) -> None:
        worker = self.gone[pick % len(self.gone)]
        if worker.current is not None:
            self.rig.claim(worker, worker.current)
            self.rig.finish(worker, worker.current, "late")

    @rule(seconds=st.sampled_from([0.1, 0.6, 1.1, 11.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.rig.pass_time(seconds)
        for worker in self.workers:
            self.rig.flow.roster.heard(worker.worker_id, self.rig.now_s)
        for worker, cause in self.rig.flow.dispatcher.faults.faulty(self.rig.now_s):
            self.workers.remove(worker)
            self.gone.append(worker)
            self.rig.flow.dispatcher.worker_gone(worker, cause, self.rig.now_s)

    # -- what must always hold

    @invariant()
    def no_hole_is_lost_and_none_is_counted_twice(self) -> None:
        flow = self.rig.flow
        assert flow.counts["holes"] == flow.terminals.total() + flow.unanswered
        assert flow.unanswered >= 0
        letters = {id(letter) for letter in flow.outbox._letters() if letter.terminal is not None}
        assert flow.unanswered == len(flow.ledger) + flow._answers._sequencer.held + len(letters)

    @invariant()
    def every_job_is_in_one_place(self) -> None:
        ledger = self.rig.flow.ledger
        assert ledger.waiting + ledger.on_wire + ledger.claimed == len(ledger)

    @invariant()
    def the_idle_are_those_who_are_idle(self) -> None:
        roster = self.rig.flow.roster
        assert roster.idle == sum(w.state is WorkerState.IDLE for w in roster.all())
        assert {w.worker_id for w in self.workers} == {w.worker_id for w in roster.all()}

    @invariant()
    def a_new_job_goes_out_only_on_credit(self) -> None:
        flow = self.rig.flow
        parcels = flow.ledger.parcels
        if batch := flow.dispatcher.next_jobs(self.rig.now_s):
            assert parcels < flow.roster.idle
            flow.dispatcher.held_back(batch, self.rig.now_s)
        assert flow.ledger.parcels == parcels

    @invariant()
    def the_buffer_is_bounded(self) -> None:
        assert len(self.rig.flow.correlator.buffer) <= 6

    def teardown(self) -> None:
        """Whatever happened: with one good worker and MQTT, every hole gets its one answer."""
        rig = self.rig
        rig.flow.suspend(rig.now_s, rig.now_s)
        for worker in self.workers:
            rig.flow.dispatcher.worker_gone(worker, "left", rig.now_s)
        last = rig.hire()
        for _ in range(1000):
            rig.pass_time(2.0)
            rig.flow.roster.heard(last.worker_id, rig.now_s)
            for job_id in rig.dispatch():
                rig.claim(last, job_id)
                rig.finish(last, job_id, "value")
            rig.publish()
            if rig.flow.unanswered == 0:
                break
        assert rig.flow.unanswered == 0
        assert len(rig.flow.outbox) == 0
        assert not rig.flow._answers._sequencer._open
        answerer = rig.adapter.made  # type: ignore[attr-defined]
        assert len(answerer.asked) == rig.flow.counts["holes"] == rig.flow.terminals.total()


TestFlowMachine = FlowMachine.TestCase
TestFlowMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


def test_the_made_up_traffic_has_the_parts_of_the_real_one() -> None:
    assert FakeAdapter().needs == OpcUaAdapter.needs
