"""The snapshot: everything `farm stats` shows, as plain JSON-able data with units in the names.

Built in the broker from the flow; drawn by `farm.telemetry.view`. Reading it needs nothing of ours.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from farm import __version__
from farm.adapter import Terminal
from farm.broker.throughput import Pace, Throughput
from farm.printable import printable
from farm.telemetry.words import OF_THE_BROKER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from farm.broker.flow import Flow
    from farm.broker.roster import Worker

SNAPSHOT_VERSION = 2
JOB_CHARS = 80  # of the names of a hole
UNCONFIRMED_PROBLEM_S = 3.0  # long after a slow disk would have answered


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the snapshot tells of the process around the flow."""

    instance: str
    mqtt: dict[str, Any]
    intake: dict[str, Any]
    journal: dict[str, Any]
    expected_workers: int
    failed_slots: Sequence[tuple[int, str]]  # number, and how its last process ended
    is_starting: bool
    is_draining: bool
    scaling: dict[str, Any] = field(default_factory=dict)  # how many workers are wanted, and why
    nursery: dict[str, Any] = field(default_factory=dict)  # see `Launcher.told`
    partition: dict[str, Any] = field(default_factory=dict)  # see `Group`; empty where alone
    partition_problems: Sequence[str] = ()
    fleet: dict[str, Any] = field(default_factory=dict)  # see `Fleet.told`
    gpu_workers: Mapping[str, str] = field(default_factory=dict)  # how each ended that is given up
    ready_workers: int | None = None  # of those expected; None: those of this machine


def problems(flow: Flow, around: Surroundings, pace: Throughput, now_s: float) -> list[str]:
    """What keeps the farm from being healthy, as sentences; empty when it is."""
    return [
        *_intake_problems(flow, around, now_s),
        *around.partition_problems,
        *_worker_problems(flow, around),
        *_answer_problems(flow, around, pace, now_s),
    ]


def _intake_problems(flow: Flow, around: Surroundings, now_s: float) -> Iterator[str]:
    if failure := around.journal["failure"]:
        yield f"the journal can't be written ({failure}): nothing is taken in or published"
    if around.mqtt["state"] != "connected":
        yield f"MQTT is {around.mqtt['state']}"
    if around.intake["paused"]:
        yield "intake is paused by an operator: farm resume"
    if flow.brake.is_shedding:
        yield f"holes are shed ({flow.brake.policy} first): more come than can be done"
    elif flow.brake.is_on and not failure:
        yield f"intake waits for {flow.brake.on_for_s(now_s):.0f} s: too many holes are open"


def _worker_problems(flow: Flow, around: Surroundings) -> Iterator[str]:
    roster, expected = flow.roster, around.expected_workers
    here = roster.ready - roster.elsewhere if around.ready_workers is None else around.ready_workers
    if cause := around.fleet.get("cause"):
        yield f"workers on Ray: {cause}"
    if roster.ready == 0:
        yield "no worker is READY"
    elif here < expected:
        further = roster.ready - here
        others = f" (and {further} on other machines)" if further else ""
        yield f"{here} of {expected} workers are READY{others}"
    for number, how in around.failed_slots:
        yield f"worker {number} is FAILED, its last process ended by: {how}"
    for name, how in around.gpu_workers.items():
        if how:
            yield f"worker {name} is FAILED, its last process ended by: {how}"
    if reason := flow.dispatcher.breaker.reason:
        yield reason


def _answer_problems(
    flow: Flow, around: Surroundings, pace: Throughput, now_s: float
) -> Iterator[str]:
    oldest_s = flow.outbox.oldest_s(now_s)
    if around.mqtt["state"] == "connected" and oldest_s > UNCONFIRMED_PROBLEM_S:
        yield (
            f"{len(flow.outbox)} answers are not confirmed by the MQTT broker, the oldest for "
            f"{oldest_s:.0f} s: look at its disk and load"
        )
    if pace.pace is not Pace.HEALTHY:
        yield (
            f"falling behind: {pace.processing_rate:.1f} holes/s done, "
            f"{pace.arrival_rate:.1f} arrive, {pace.backlog} wait"
        )


def overall_state(
    pace: Throughput, problems: list[str], *, is_starting: bool, is_draining: bool
) -> str:
    """The one word on top: what an operator should think first."""
    if is_draining:
        return "DRAINING"
    if is_starting and problems:
        return "STARTING"
    if pace.pace is not Pace.HEALTHY:
        return str(pace.pace.value)
    return "UNHEALTHY" if problems else "HEALTHY"


def workers(flow: Flow, now_s: float) -> list[dict[str, Any]]:
    """One row per worker, in the order of their names."""
    rows = [
        {
            "id": worker.worker_id,
            "name": worker.name,
            "host": worker.host,
            "key": worker.key,
            "device": worker.device,
            "pid": worker.pid,
            "state": worker.state.value,
            "job": _job(flow, worker),
            "job_age_s": now_s - worker.current_since_s if worker.current is not None else None,
            "jobs_held": len(worker.held) if worker.batch_jobs else None,
            "jobs_done": worker.jobs_done,
            "rate_hz": worker.rate_hz,
            "rss_bytes": worker.rss_bytes,
            "up_s": now_s - worker.joined_s,
            "silent_s": now_s - worker.heard_s,
            "model_version": worker.model_version,
            "model_hash": worker.model_hash,
            **flow.roster.turnover.of(worker),
        }
        for worker in flow.roster.all()
    ]
    return sorted(rows, key=lambda row: (len(str(row["name"])), str(row["name"])))


def _job(flow: Flow, worker: Worker) -> dict[str, Any] | None:
    """What a worker computes: of a batch the first one; None: nothing, or it is settled already."""
    entry = None if worker.current is None else flow.ledger.get(worker.current)
    if entry is None:
        return None
    source, part_id = (printable(text, JOB_CHARS) for text in entry.key)
    return {"source": source, "id": part_id, "batch": worker.batch, "deaths": entry.deaths}


def _counts(flow: Flow) -> dict[str, int]:
    """Ours, and the answerer's: "answerer_…" where it has taken a name of ours."""
    ours = {**flow.correlator.counts, **flow.counts, "loops": flow.outbox.loops}
    for name, count in flow.said.items():
        told = f"answerer_{name}" if name in OF_THE_BROKER else name
        ours[told] = ours.get(told, 0) + count
    return ours


def build(flow: Flow, around: Surroundings, *, now_s: float, started_s: float) -> dict[str, Any]:
    """The snapshot of a flow at a time."""
    pace = flow.monitor.assess(now_s, waiting=flow.backlog(now_s))
    wrong = problems(flow, around, pace, now_s)
    counts = _counts(flow)
    waiting = flow.correlator.buffer
    by_kind = waiting.parts_by_kind
    return {
        "snapshot_version": SNAPSHOT_VERSION,
        "farm_version": __version__,
        "instance": around.instance,
        "taken_utc_s": flow.utc(now_s),
        "up_s": now_s - started_s,
        "state": overall_state(
            pace, wrong, is_starting=around.is_starting, is_draining=around.is_draining
        ),
        "problems": wrong,
        "throughput": {**asdict(pace), "pace": pace.pace.value},
        "mqtt": around.mqtt,
        "intake": around.intake,
        "buffers": {
            "parts_by_kind": {kind: by_kind[kind] for kind in flow.kinds},
            "open_joins": waiting.open_joins,
            "payload_bytes": waiting.payload_bytes,
        },
        "jobs": {
            "pending": flow.ledger.waiting + flow.ledger.on_wire,
            "active": flow.ledger.claimed,
            "completed": flow.terminals.total(),
            "unanswered": flow.unanswered,
            "late": flow.ledger.late,
            "overtaken": flow.overtaken,
            "payload_bytes": flow.ledger.open_bytes,
            "memory_bytes": flow.ledger.memory_bytes,
            "timeout_s": flow.dispatcher.faults.timeout_s,
            "unconfirmed_publications": len(flow.outbox),
        },
        "holes": {
            "arrived": counts.get("holes", 0),
            **{terminal.value: flow.terminals[terminal] for terminal in Terminal},
        },
        "dead_letters": flow.dead_letters,
        "journal": around.journal,
        "counts": counts,
        "latency": {stage: histogram.summary() for stage, histogram in flow.stages.items()},
        "workers": workers(flow, now_s),
        "workers_ended": flow.roster.turnover.ends(now_s),
        "workers_expected": around.expected_workers,
        "scaling": around.scaling,
        "nursery": around.nursery,
        "partition": around.partition,
        "fleet": around.fleet,
        "gpu_workers": dict(around.gpu_workers),
        "slots_failed": [list(slot) for slot in around.failed_slots],
        **flow.observation.snapshot(now_s),
    }
