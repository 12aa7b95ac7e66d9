"""From vitals to samples: which value each metric has, and with which labels.

One generator for each part of the catalogue. Where the values of a label are known beforehand all
of them are told, 0 included: of a counter that begins with its first event Prometheus sees no rise.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from farm.metrics.careers import Careers, name_of
from farm.metrics.endings import Ending
from farm.metrics.words import OTHER, Words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from farm.metrics.disk import DiskUse
    from farm.metrics.vitals import Vitals
    from farm.telemetry.histogram import Cumulative

Sample = tuple[str, tuple[str, ...], "float | Cumulative"]
"""A metric's name, the values of its labels, and its own."""

STATES: Final = ("HEALTHY", "STARTING", "DRAINING", "FALLING_BEHIND", "UNHEALTHY")
RESULTS: Final = (
    "paired",
    "unpaired",
    "duplicate",
    "redelivered",
    "replaced",
    "late",
    "unused",
    "unreadable",
    "too_large",
)
OUTCOMES: Final = ("published", "insufficient", "skipped", "shed", "dead")
UNPAIRED: Final = ("expired", "superseded", "evicted", "flushed")
IGNORED: Final = {"foreign_topic": "foreign_topics", "another_partition": "of_another_partition"}
WORKER_STATES: Final = ("loading", "idle", "busy", "draining")
QUALITY_EVENTS: Final = (
    "negative_depths",
    "negative_runs",
    "invalid_confidence",
    "invalid_values",
    "alerts",
)
FAILURES: Final = {"adapter": "adapter_failures", "answerer": "answerer_failures"}
REFUSED_PEERS: Final = (
    "turned_away",
    "forged",
    "bad_frames",
    "rate_limited",
    "kept_out",
    "workers_refused",
)
FLEET_STATES: Final = ("wanted", "alive", "pending", "restarting", "leaving")
# What the broker counts under these names is told by another metric, or says nothing of its own.
ELSEWHERE: Final = frozenset(
    {
        *UNPAIRED,
        *IGNORED.values(),
        *FAILURES.values(),
        *REFUSED_PEERS,
        *("parts", "paired", "duplicates", "redelivered", "replaced", "late", "optional_unused"),
        *("holes", "rejected", "recovered", "spilled", "parcels", "bounces", "reclaimed"),
        *("late_claims", "late_results", "workers_fenced", "refused_publications", "loops"),
        *("admitted", "skipped"),
    }
)


class Vocabulary:
    """What is known from one scrape to the next, in one life of the broker.

    Args:
        kinds: of message, and so on: which strangers' words may become values of labels.
        workers: their names and hosts.
        models: versions and hashes.
        events: what an adapter counts.
    """

    def __init__(self, kinds: Words, workers: Words, models: Words, events: Words) -> None:
        self.kinds, self.workers, self.models, self.events = kinds, workers, models, events
        self.careers = Careers(self.worker)

    @classmethod
    def new(cls) -> Vocabulary:
        """For a broker that begins; 300 workers are told apart."""
        return cls(Words(20), Words(300), Words(20), Words(20))

    def worker(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The labels of a worker."""
        return self.workers.of(name_of(row), row["host"])


def samples(
    vitals: Vitals, *, disk: DiskUse | None, keep_bytes: int, words: Vocabulary
) -> Iterator[Sample]:
    """All that can be told of some vitals; see `farm.metrics.catalogue`."""
    shot = vitals.snapshot
    yield from _health(shot)
    yield from _messages(vitals, words)
    yield from _holes(shot)
    yield from (("farm_stage_duration_seconds", (stage,), s) for stage, s in vitals.stages.items())
    yield from _dispatch(vitals)
    yield from _workers(vitals, words)
    yield from _quality(shot, words)
    yield from _mqtt(vitals)
    yield from _journal(vitals, disk, keep_bytes)
    yield from _strangers(shot)


def _health(shot: Mapping[str, Any]) -> Iterator[Sample]:
    for state in STATES:
        yield "farm_state", (state,), shot["state"] == state
    yield "farm_problems", (), len(shot["problems"])


def _messages(vitals: Vitals, words: Vocabulary) -> Iterator[Sample]:
    shot, counts = vitals.snapshot, vitals.snapshot["counts"]
    known = set(vitals.kinds)
    labels = dict.fromkeys(words.kinds.of(kind) for kind in vitals.kinds)  # some may be the same
    found: Counter[tuple[tuple[str, ...], str]] = Counter()
    for (kind, what), count in vitals.messages.items():
        # an adapter of yours may make up a kind for each topic
        label = words.kinds.of(kind) if kind in known else (OTHER,)
        labels[label] = None
        found[label, what] += count
    for label in labels:
        yield "farm_messages_received_total", label, found[label, "received"]
        for result in RESULTS:
            yield "farm_messages_ended_total", (*label, result), found[label, result]
    waiting: Counter[tuple[str, ...]] = Counter()
    for kind, count in shot["buffers"]["parts_by_kind"].items():
        waiting[words.kinds.of(kind)] += count
    yield from (("farm_messages_waiting", label, count) for label, count in waiting.items())
    yield "farm_messages_waiting_bytes", (), shot["buffers"]["payload_bytes"]
    yield from _each("farm_messages_ignored_total", counts, IGNORED)
    yield "farm_messages_refused_total", (), counts.get("rejected", 0)


def _holes(shot: Mapping[str, Any]) -> Iterator[Sample]:
    counts, holes, jobs, pace = shot["counts"], shot["holes"], shot["jobs"], shot["throughput"]
    yield "farm_holes_arrived_total", (), holes["arrived"]
    for outcome in OUTCOMES:
        yield "farm_holes_ended_total", (outcome,), holes[outcome]
    yield from _each("farm_holes_unpaired_total", counts, {name: name for name in UNPAIRED})
    yield "farm_holes_overtaken_total", (), jobs["overtaken"]
    yield "farm_holes_spilled_total", (), counts.get("spilled", 0)
    yield "farm_holes_open", (), jobs["unanswered"]
    yield "farm_holes_open_bytes", (), jobs["payload_bytes"]
    yield "farm_holes_open_memory_bytes", (), jobs["memory_bytes"]
    yield "farm_holes_recovered", (), counts.get("recovered", 0)
    yield "farm_backlog_holes", (), pace["backlog"]
    yield "farm_drain_seconds", (), math.inf if pace["drain_s"] is None else pace["drain_s"]
    yield "farm_falling_behind", (), pace["pace"] == "FALLING_BEHIND"
    yield "farm_dead_letters", (), shot["dead_letters"]


def _dispatch(vitals: Vitals) -> Iterator[Sample]:
    jobs, counts = vitals.snapshot["jobs"], vitals.snapshot["counts"]
    for state in ("pending", "active"):
        yield "farm_jobs", (state,), jobs[state]
    yield "farm_jobs_late", (), jobs["late"]
    yield "farm_job_timeout_seconds", (), jobs["timeout_s"]
    for name, counted in (
        ("messages", "parcels"),
        ("bounces", "bounces"),
        ("resends", "reclaimed"),
        ("late_claims", "late_claims"),
        ("late_results", "late_results"),
    ):
        yield f"farm_dispatch_{name}_total", (), counts.get(counted, 0)
    yield "farm_dispatch_credit", (), vitals.credit
    yield "farm_dispatch_paused", (), vitals.is_dispatch_paused


def _workers(vitals: Vitals, words: Vocabulary) -> Iterator[Sample]:
    shot = vitals.snapshot
    rows = shot["workers"]
    states = Counter(row["state"] for row in rows)
    for state in WORKER_STATES:
        yield "farm_workers", (state,), states[state]
    yield "farm_workers_ready", (), states["idle"] + states["busy"]
    yield "farm_workers_expected", (), shot["workers_expected"]
    yield "farm_workers_missing", (), max(shot["workers_expected"] - vitals.ready, 0)
    yield "farm_workers_fenced_total", (), shot["counts"].get("workers_fenced", 0)
    models = Counter(
        words.models.of(row["model_version"], row["model_hash"])
        for row in rows
        if row["model_hash"]
    )
    for model, count in models.items():
        yield "farm_workers_by_model", model, count
    yield from _each_worker(rows, words)
    for ending in Ending:
        yield (
            "farm_supervisor_worker_exits_total",
            (ending.value,),
            vitals.exits.get(ending.value, 0),
        )
    yield "farm_supervisor_slots_failed", (), len(shot["slots_failed"])
    if "made" in shot["nursery"]:  # the supervisor's count: 0 until it tells it would be a rise
        yield "farm_nursery_starts_total", (), shot["nursery"]["made"]
    for state in FLEET_STATES if shot["fleet"] else ():
        yield "farm_fleet_workers", (state,), shot["fleet"][state]


def _each_worker(rows: Iterable[Mapping[str, Any]], words: Vocabulary) -> Iterator[Sample]:
    """Workers of one label are told as one: there are two while one takes the other's place."""
    memory: Counter[tuple[str, ...]] = Counter()
    age_s: dict[tuple[str, ...], float] = {}
    for row in rows:
        label = words.worker(row)
        memory[label] += row["rss_bytes"]
        age_s[label] = max(age_s.get(label, 0.0), row["job_age_s"] or 0.0)
    jobs, starts = words.careers.look(rows)
    yield from (("farm_worker_jobs_total", label, count) for label, count in jobs.items())
    yield from (("farm_worker_starts_total", label, count) for label, count in starts.items())
    yield from (("farm_worker_memory_bytes", label, size) for label, size in memory.items())
    yield from (("farm_worker_job_age_seconds", label, age) for label, age in age_s.items())


def _quality(shot: Mapping[str, Any], words: Vocabulary) -> Iterator[Sample]:
    counts = shot["counts"]
    found: Counter[tuple[str, ...]] = Counter()
    for event in QUALITY_EVENTS:
        found[event,] += counts.get(event, 0)
    for name, count in counts.items():
        if name not in ELSEWHERE and name not in QUALITY_EVENTS:  # an answerer's own
            found[words.events.of(name)] += count
    yield from (("farm_quality_events_total", event, count) for event, count in found.items())
    yield from _each("farm_code_failures_total", counts, FAILURES)


def _mqtt(vitals: Vitals) -> Iterator[Sample]:
    shot = vitals.snapshot
    mqtt, intake, counts = shot["mqtt"], shot["intake"], shot["counts"]
    yield "farm_mqtt_connected", (), mqtt["state"] == "connected"
    yield "farm_mqtt_reconnects_total", (), mqtt["reconnects"]
    yield "farm_mqtt_retakes_total", (), mqtt["retakes"]
    for name in ("overruns", "oversize", "lost_qos0"):
        yield f"farm_mqtt_{name}_total", (), intake[name]
    yield "farm_intake_messages", (), intake["queued"]
    yield "farm_intake_bytes", (), intake["payload_bytes"]
    for name in ("unacknowledged", "braked", "paused"):
        yield f"farm_intake_{name}", (), intake[name]
    yield "farm_publications_unconfirmed", (), shot["jobs"]["unconfirmed_publications"]
    yield "farm_publications_inflight", (), vitals.inflight
    yield "farm_publications_oldest_seconds", (), vitals.oldest_answer_s
    yield "farm_publications_refused_total", (), counts.get("refused_publications", 0)
    yield "farm_publications_looped_total", (), counts.get("loops", 0)


def _journal(vitals: Vitals, disk: DiskUse | None, keep_bytes: int) -> Iterator[Sample]:
    journal = vitals.snapshot["journal"]
    if vitals.commits is None:  # durability is off
        return
    yield "farm_journal_writable", (), not journal["failure"]
    yield "farm_journal_queued_records", (), journal["queued"]
    yield "farm_journal_commits_total", (), journal["commits"]
    yield "farm_journal_commit_duration_seconds", (), vitals.commits
    yield "farm_journal_limit_bytes", (), keep_bytes
    if disk is not None:
        yield "farm_journal_bytes", (), disk.journal_bytes
        yield "farm_journal_disk_free_bytes", (), disk.free_bytes
        yield "farm_journal_disk_bytes", (), disk.size_bytes


def _strangers(shot: Mapping[str, Any]) -> Iterator[Sample]:
    counts = shot["counts"]
    yield "farm_peers_admitted_total", (), counts.get("admitted", 0)
    yield from _each("farm_peers_refused_total", counts, {name: name for name in REFUSED_PEERS})


def _each(name: str, counts: Mapping[str, int], told: Mapping[str, str]) -> Iterator[Sample]:
    """One metric by one label, whose values the broker counts under names of their own."""
    for label, counted in told.items():
        yield name, (label,), counts.get(counted, 0)
