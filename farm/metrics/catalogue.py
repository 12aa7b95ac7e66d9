"""The catalogue: every metric by name, with its type, labels and meaning.

Owns the names, in base units (seconds, bytes) and with `_total` where something only rises. What
stands here is what is exported, and docs/metrics.md shows: a test holds the three equal.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple


class Type(Enum):
    """As Prometheus has them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Family(NamedTuple):
    """One metric."""

    name: str
    type: Type
    labels: tuple[str, ...]
    help: str


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family(name, Type.COUNTER, labels, text)


def _gauge(name: str, text: str, *labels: str) -> Family:
    return Family(name, Type.GAUGE, labels, text)


def _histogram(name: str, text: str, *labels: str) -> Family:
    return Family(name, Type.HISTOGRAM, labels, text)


# What there is also while the broker's loop does not answer.
ALWAYS: Final = (
    _gauge("farm_build_info", "Always 1: which farm this is.", "version", "farm", "partition"),
    _gauge(
        "farm_loop_tick_age_seconds",
        "Time since the broker's loop has last turned; 0.05 s at most where all is well.",
    ),
    _counter(
        "farm_metrics_requests_total",
        "Requests to /metrics, /healthz and /readyz by HTTP status code.",
        "code",
    ),
)

HEALTH: Final = (
    _gauge("farm_state", "1 for the state that `farm stats` shows, 0 for the others.", "state"),
    _gauge("farm_problems", "How many problems `farm stats` names."),
    _gauge(
        "farm_loop_longest_turn_seconds",
        "Longest turn of the broker's loop in the last one to two minutes.",
    ),
    _counter("farm_snapshots_total", "Snapshots that the broker's loop has made for monitoring."),
    _counter("farm_snapshot_seconds_total", "Time that the broker's loop has spent on these."),
)

MESSAGES: Final = (
    _counter("farm_messages_received_total", "Messages taken in from MQTT, by kind.", "kind"),
    _counter(
        "farm_messages_ended_total",
        "What became of them: paired, unpaired, duplicate, redelivered (by MQTT), replaced, late,"
        " unused (optional, and its hole never came), unreadable, too_large.",
        *("kind", "result"),
    ),
    _counter(
        "farm_messages_ignored_total",
        "Messages that are not this farm's: foreign_topic, another_partition.",
        "reason",
    ),
    _counter(
        "farm_messages_refused_total",
        "Messages that belong to no hole, each answered on the Errors topic.",
    ),
    _gauge("farm_messages_waiting", "Messages that wait for their partners.", "kind"),
    _gauge("farm_messages_waiting_bytes", "Bytes of these."),
)

HOLES: Final = (
    _counter("farm_holes_arrived_total", "Holes that are complete, or were given up incomplete."),
    _counter(
        "farm_holes_ended_total",
        "Holes at their one end: published, insufficient, skipped, shed, dead.",
        "outcome",
    ),
    _counter(
        "farm_holes_unpaired_total",
        "Holes whose messages did not all come: expired (time window), superseded (by another of"
        " the same id), evicted (too many wait), flushed (the farm stopped without a journal).",
        "reason",
    ),
    _counter("farm_holes_overtaken_total", "Late holes that let others of their tool pass."),
    _counter("farm_holes_spilled_total", "Holes that waited on disk, beyond the memory budget."),
    _gauge("farm_holes_open", "Holes that are complete and have not reached their end."),
    _gauge("farm_holes_open_bytes", "Bytes of their messages."),
    _gauge("farm_holes_open_memory_bytes", "Of these, bytes in memory."),
    _gauge("farm_holes_recovered", "Holes and messages taken up from the broker's life before."),
    _gauge("farm_backlog_holes", "Holes that wait for a worker, or too long for MQTT."),
    _gauge("farm_drain_seconds", "Time to work the backlog off; +Inf: it does not shrink."),
    _gauge("farm_falling_behind", "1 while fewer holes are answered than arrive, and some wait."),
    _histogram(
        "farm_stage_duration_seconds",
        "Latency of a hole by stage: pairing, queue, transport, reading, inference, publishing,"
        " and total (last message to confirmed answer; dead letters are not in it).",
        "stage",
    ),
    _gauge("farm_dead_letters", "Dead letters that wait for an operator: `farm dead list`."),
)

DISPATCH: Final = (
    _gauge(
        "farm_jobs",
        "Jobs: pending (wait, or on their way to a worker), active (computed now).",
        "state",
    ),
    _gauge("farm_jobs_late", "Jobs that wait for longer than overload.objective_s."),
    _gauge("farm_job_timeout_seconds", "How long one may be computed, as measured."),
    _counter("farm_dispatch_messages_total", "Messages with jobs sent to workers."),
    _counter("farm_dispatch_bounces_total", "Jobs that a busy worker sent back."),
    _counter("farm_dispatch_resends_total", "Jobs sent again since nobody claimed them in time."),
    _counter("farm_dispatch_late_claims_total", "Claims that came too late."),
    _counter("farm_dispatch_late_results_total", "Results of holes that another has answered."),
    _gauge("farm_dispatch_credit", "How many messages with jobs may be under way unclaimed."),
    _gauge("farm_dispatch_paused", "1 while the model is suspected of killing its workers."),
)

WORKERS: Final = (
    _gauge("farm_workers", "Workers by state: loading, idle, busy, draining.", "state"),
    _gauge("farm_workers_ready", "Workers that are idle or busy."),
    _gauge("farm_workers_expected", "How many of this machine (or on Ray) should be."),
    _gauge("farm_workers_missing", "How many of these are not."),
    _gauge("farm_workers_by_model", "Workers by model and hash of it.", "version", "hash"),
    _counter("farm_workers_fenced_total", "Workers taken off for silence, slowness or memory."),
    _counter("farm_worker_jobs_total", "Jobs done by worker.", "worker", "host"),
    _counter(
        "farm_worker_starts_total",
        "How often it has joined; after the first time it was restarted, or had lost the broker.",
        *("worker", "host"),
    ),
    _gauge("farm_worker_memory_bytes", "Memory (RSS) by worker.", "worker", "host"),
    _gauge("farm_worker_job_age_seconds", "How long it computes now.", "worker", "host"),
    _counter(
        "farm_supervisor_worker_exits_total",
        "Workers of this machine that ended: asked (exit code 0), failed (another), signal, memory"
        " (out of it), killed (by the supervisor).",
        "how",
    ),
    _gauge("farm_supervisor_slots_failed", "Workers that the supervisor has given up."),
    _counter("farm_nursery_starts_total", "Nurseries made, from which workers are forked."),
    _gauge(
        "farm_fleet_workers",
        "Workers on Ray: wanted, alive, pending, restarting, leaving.",
        "state",
    ),
)

QUALITY: Final = (
    _counter(
        "farm_quality_events_total",
        "What was found in answers: negative_depths, negative_runs, invalid_confidence,"
        " invalid_values, alerts, and what an adapter of yours counts.",
        "event",
    ),
    _counter("farm_code_failures_total", "Exceptions of the adapter or answerer.", "where"),
)

MQTT: Final = (
    _gauge("farm_mqtt_connected", "1 while MQTT is connected."),
    _counter("farm_mqtt_reconnects_total", "Connections to MQTT after one that was lost."),
    _counter(
        "farm_mqtt_retakes_total",
        "Connections that the farm made anew, to be sent again what had not fitted into the"
        " intake.",
    ),
    _counter("farm_mqtt_overruns_total", "Messages left unacknowledged since the intake was full."),
    _counter("farm_mqtt_oversize_total", "Messages beyond limits.message_bytes, kept in part."),
    _counter("farm_mqtt_lost_qos0_total", "Messages lost since they were sent at QoS 0."),
    _gauge("farm_intake_messages", "Messages received and not yet looked at."),
    _gauge("farm_intake_bytes", "Bytes of these."),
    _gauge("farm_intake_unacknowledged", "Messages that wait for the journal to be acknowledged."),
    _gauge("farm_intake_braked", "1 while nothing is taken in since too many holes are open."),
    _gauge("farm_intake_paused", "1 while nothing is taken in since an operator said so."),
    _gauge("farm_publications_unconfirmed", "Answers that MQTT has not confirmed."),
    _gauge("farm_publications_inflight", "Of these, handed to MQTT."),
    _gauge("farm_publications_oldest_seconds", "How long the oldest of them waits."),
    _counter("farm_publications_refused_total", "Answers that MQTT refused, or can't take."),
    _counter("farm_publications_looped_total", "Answers on topics that are taken in: refused."),
)

JOURNAL: Final = (
    _gauge("farm_journal_writable", "1 while the journal can be written."),
    _gauge("farm_journal_queued_records", "Records that wait to be written."),
    _counter("farm_journal_commits_total", "Groups of records written."),
    _histogram("farm_journal_commit_duration_seconds", "Time to write a group."),
    _gauge("farm_journal_bytes", "Bytes of the journal on disk."),
    _gauge("farm_journal_limit_bytes", "How many it may keep: journal.keep_bytes."),
    _gauge("farm_journal_disk_free_bytes", "Free bytes on its disk, as its user may use them."),
    _gauge("farm_journal_disk_bytes", "Size of its disk."),
)

STRANGERS: Final = (
    _counter("farm_peers_admitted_total", "Connections of workers let in by key."),
    _counter(
        "farm_peers_refused_total",
        "What was refused of workers: turned_away (no key), forged (no right), bad_frames"
        " (malformed), rate_limited, kept_out (went on beyond it), workers_refused (too many).",
        "reason",
    ),
)

# With the loop's answer; those of MQTT and so on are there in any case.
CATALOGUE: Final = (
    *ALWAYS,
    *HEALTH,
    *MESSAGES,
    *HOLES,
    *DISPATCH,
    *WORKERS,
    *QUALITY,
    *MQTT,
    *JOURNAL,
    *STRANGERS,
)
FAMILIES: Final = {family.name: family for family in CATALOGUE}
