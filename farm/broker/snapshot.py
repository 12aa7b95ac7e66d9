"""The snapshot: everything `farm stats` shows, as plain JSON-able data with units in the names.

Built in the broker from the flow; drawn by `farm.telemetry.view`. Reading it needs nothing of ours.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from farm import __version__
from farm.adapter import Terminal
from farm.broker.throughput import Pace, Throughput

if TYPE_CHECKING:
    from farm.broker.flow import Flow

SNAPSHOT_VERSION = 1
UNCONFIRMED_PROBLEM_S = 3.0  # long after a slow disk would have answered


def problems(
    flow: Flow, pace: Throughput, now_s: float, *, mqtt: str, expected_workers: int
) -> list[str]:
    """What keeps the farm from being healthy, as sentences; empty when it is."""
    found = []
    if mqtt != "connected":
        found.append(f"MQTT is {mqtt}")
    ready = flow.roster.ready
    if ready == 0:
        found.append("no worker is READY")
    elif ready < expected_workers:
        found.append(f"{ready} of {expected_workers} workers are READY")
    oldest_s = flow.outbox.oldest_s(now_s)
    if mqtt == "connected" and oldest_s > UNCONFIRMED_PROBLEM_S:
        found.append(
            f"{len(flow.outbox)} answers are not confirmed by the MQTT broker, the oldest for "
            f"{oldest_s:.0f} s: look at its disk and load"
        )
    if pace.pace is not Pace.HEALTHY:
        found.append(
            f"falling behind: {pace.processing_rate:.1f} holes/s done, "
            f"{pace.arrival_rate:.1f} arrive, {pace.backlog} wait"
        )
    return found


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
            "pid": worker.pid,
            "state": worker.state.value,
            "job_age_s": now_s - worker.current_since_s if worker.current is not None else None,
            "jobs_done": worker.jobs_done,
            "rss_bytes": worker.rss_bytes,
            "up_s": now_s - worker.joined_s,
            "silent_s": now_s - worker.heard_s,
            "model_version": worker.model_version,
            "model_hash": worker.model_hash,
        }
        for worker in flow.roster.all()
    ]
    return sorted(rows, key=lambda row: (len(str(row["name"])), str(row["name"])))


def build(
    flow: Flow,
    *,
    now_s: float,
    started_s: float,
    instance: str,
    mqtt: dict[str, Any],
    intake: dict[str, Any],
    expected_workers: int,
    is_starting: bool,
    is_draining: bool,
) -> dict[str, Any]:
    """The snapshot of a flow at a time."""
    pace = flow.monitor.assess(now_s, waiting=flow.backlog(now_s))
    wrong = problems(flow, pace, now_s, mqtt=mqtt["state"], expected_workers=expected_workers)
    counts = {**flow.correlator.counts, **flow.counts}
    return {
        "snapshot_version": SNAPSHOT_VERSION,
        "farm_version": __version__,
        "instance": instance,
        "up_s": now_s - started_s,
        "state": overall_state(pace, wrong, is_starting=is_starting, is_draining=is_draining),
        "problems": wrong,
        "throughput": {**asdict(pace), "pace": pace.pace.value},
        "mqtt": mqtt,
        "intake": intake,
        "buffers": {
            "parts_by_kind": {k: flow.correlator.buffer.parts_by_kind[k] for k in flow.kinds},
            "open_joins": flow.correlator.buffer.open_joins,
            "payload_bytes": flow.correlator.buffer.payload_bytes,
        },
        "jobs": {
            "pending": flow.ledger.waiting + flow.ledger.on_wire,
            "active": flow.ledger.claimed,
            "completed": flow.terminals.total(),
            "unanswered": flow.unanswered,
            "payload_bytes": flow.ledger.open_bytes,
            "unconfirmed_publications": len(flow.outbox),
        },
        "holes": {
            "arrived": counts.get("holes", 0),
            **{terminal.value: flow.terminals[terminal] for terminal in Terminal},
        },
        "counts": counts,
        "latency": {stage: histogram.summary() for stage, histogram in flow.stages.items()},
        "workers": workers(flow, now_s),
        "workers_expected": expected_workers,
    }
