"""For each alert of etc/alerts.yml: series at which it fires, series at which it keeps quiet, when.

In the notation of `promtool test rules`: `0+6x20` is 0, 6, 12 … with one value a minute.
"""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """One alert. Series by name, with further labels in {}; job and instance come beside."""

    alert: str
    after: str  # so long after the start it is looked at
    fires: dict[str, str]
    quiet: tuple[dict[str, str], ...]


def _buckets(name: str, limits: dict[str, str], labels: str = "") -> dict[str, str]:
    return {f'{name}_bucket{{{labels}le="{limit}"}}': values for limit, values in limits.items()}


_TOTAL = "farm_stage_duration_seconds"
_STAGE = 'stage="total", '
_COMMIT = "farm_journal_commit_duration_seconds"
_ENDED = 'farm_holes_ended_total{outcome="%s"}'
_EXITS = 'farm_supervisor_worker_exits_total{how="%s"}'

CASES = (
    Case("FarmDown", "2m", {"up": "0x5"}, ({"up": "1x5"}, {"up": "0 1 1 1 1"})),
    Case(
        "FarmLoopHangs",
        "4m",
        {"up": "1x5", "farm_workers_ready": "2 stale"},
        ({"up": "1x5", "farm_workers_ready": "0x5"}, {"up": "0x5"}),
    ),
    Case(
        "FarmNoWorker",
        "2m",
        {"farm_workers_ready": "0 0 0 0"},
        # the last: a start that takes as long as workers.ready_timeout_s allows
        ({"farm_workers_ready": "1x5"}, {"farm_workers_ready": "2 0 0 1"}),
    ),
    Case(
        "FarmMqttDown",
        "3m",
        {"farm_mqtt_connected": "1 0 0 0"},
        ({"farm_mqtt_connected": "1x5"}, {"farm_mqtt_connected": "1 1 0 1"}),
    ),
    Case(
        "FarmJournalUnwritable",
        "2m",
        {"farm_journal_writable": "1 0 0"},
        ({"farm_journal_writable": "1x5"},),
    ),
    Case(
        "FarmDispatchPaused",
        "2m",
        {"farm_dispatch_paused": "0 1 1"},
        ({"farm_dispatch_paused": "0x5"},),
    ),
    Case(
        "FarmFallingBehind",
        "5m",
        {"farm_falling_behind": "1x5"},
        ({"farm_falling_behind": "0x5"}, {"farm_falling_behind": "1 1 0 1 0 1"}),
    ),
    Case(
        "FarmBacklog",
        "6m",
        {"farm_drain_seconds": "Inf Inf Inf Inf Inf Inf Inf Inf", "farm_backlog_holes": "500+60x9"},
        (
            {
                "farm_drain_seconds": "Inf Inf Inf Inf Inf Inf Inf Inf",
                "farm_backlog_holes": "3x9",
            },  # a busy farm, well
            {"farm_drain_seconds": "60x9", "farm_backlog_holes": "500-60x9"},
        ),
    ),
    Case(
        "FarmSlowAnswers",
        "20m",
        _buckets(_TOTAL, {"1": "0+57x20", "2": "0+60x20", "+Inf": "0+60x20"}, _STAGE),
        (
            _buckets(_TOTAL, {"1": "0+60x20", "2": "0+60x20", "+Inf": "0+60x20"}, _STAGE),
            _buckets(_TOTAL, {"1": "0x20", "+Inf": "0x20"}, _STAGE),  # nothing is drilled
        ),
    ),
    Case("FarmIntakeBraked", "4m", {"farm_intake_braked": "1x5"}, ({"farm_intake_braked": "0x5"},)),
    Case(
        "FarmIntakePaused",
        "31m",
        {"farm_intake_paused": "1x40"},
        ({"farm_intake_paused": "0x40"}, {"farm_intake_paused": "1x20 0x20"}),
    ),
    Case("FarmShedding", "5m", {_ENDED % "shed": "0 0 7 7 7 7"}, ({_ENDED % "shed": "7x5"},)),
    Case(
        "FarmDeadLetters",
        "3m",
        {"farm_dead_letters": "0 1 1 1"},
        ({"farm_dead_letters": "0x5"}, {"farm_dead_letters": "0 3 0 0"}),
    ),
    Case(
        "FarmHolesDying",
        "20m",
        {_ENDED % "dead": "0+3x20", _ENDED % "published": "0+97x20"},
        (
            {_ENDED % "dead": "0+1x20", _ENDED % "published": "0+99x20"},
            {_ENDED % "dead": "5x20", _ENDED % "published": "5x20"},  # nothing is drilled
            {_ENDED % "dead": "0x13 1x7", _ENDED % "published": "0+1x20"},  # one, in a quiet hour
        ),
    ),
    Case(
        "FarmNegativeRun",
        "5m",
        {'farm_quality_events_total{event="negative_runs"}': "0 0 1 1 1 1"},
        (
            {'farm_quality_events_total{event="negative_runs"}': "1x5"},
            {'farm_quality_events_total{event="negative_depths"}': "0+1x5"},
        ),
    ),
    Case(
        "FarmUnpaired",
        "20m",
        {
            'farm_holes_unpaired_total{reason="expired"}': "0+3x20",
            "farm_holes_arrived_total": "0+100x20",
        },
        (
            {
                'farm_holes_unpaired_total{reason="expired"}': "0+1x20",
                "farm_holes_arrived_total": "0+100x20",
            },
            {
                'farm_holes_unpaired_total{reason="expired"}': "0x13 1x7",
                "farm_holes_arrived_total": "0+1x20",
            },  # one, in a quiet hour
        ),
    ),
    Case(
        "FarmMessagesRefused",
        "20m",
        {
            "farm_messages_refused_total": "0+3x20",
            'farm_messages_received_total{kind="trace"}': "0+100x20",
        },
        (
            {
                "farm_messages_refused_total": "0+1x20",
                'farm_messages_received_total{kind="trace"}': "0+100x20",
            },
            {
                "farm_messages_refused_total": "0x13 1x7",
                'farm_messages_received_total{kind="trace"}': "0+1x20",
            },  # one, in a quiet hour
        ),
    ),
    Case(
        "FarmCodeFails",
        "5m",
        {'farm_code_failures_total{where="adapter"}': "0 1 1 1 1 1"},
        ({'farm_code_failures_total{where="adapter"}': "1x5"},),
    ),
    Case(
        "FarmWorkersMissing",
        "6m",
        {"farm_workers_missing": "1x9"},
        ({"farm_workers_missing": "0x9"}, {"farm_workers_missing": "1 1 1 0 1 1 1"}),
    ),
    Case(
        "FarmWorkersDying",
        "9m",
        {_EXITS % "memory": "0+1x9"},
        ({_EXITS % "asked": "0+5x9"}, {_EXITS % "signal": "0 1 1 1 1 1 1 1 1 1"}),
    ),
    Case(
        "FarmSlotFailed",
        "1m",
        {"farm_supervisor_slots_failed": "0 1 1"},
        ({"farm_supervisor_slots_failed": "0x5"},),
    ),
    Case(
        "FarmTwoModels",
        "31m",
        {
            'farm_workers_by_model{version="m", hash="1"}': "2x40",
            'farm_workers_by_model{version="m", hash="2"}': "1x40",
        },
        (
            {'farm_workers_by_model{version="m", hash="1"}': "3x40"},
            {
                'farm_workers_by_model{version="m", hash="1"}': "2x20 _x20",
                'farm_workers_by_model{version="m", hash="2"}': "1x40",
            },
        ),
    ),
    Case(
        "FarmMqttFlapping",
        "10m",
        {"farm_mqtt_reconnects_total": "0+1x10"},
        ({"farm_mqtt_reconnects_total": "0 1 1 1 1 1 1 1 1 1 1"},),
    ),
    Case(
        "FarmUnconfirmed",
        "3m",
        {"farm_publications_oldest_seconds": "40+60x5", "farm_mqtt_connected": "1x5"},
        (
            {"farm_publications_oldest_seconds": "0.1x5", "farm_mqtt_connected": "1x5"},
            {"farm_publications_oldest_seconds": "40+60x5", "farm_mqtt_connected": "0x5"},
        ),
    ),
    Case(
        "FarmLostQos0",
        "5m",
        {"farm_mqtt_lost_qos0_total": "0 0 9 9 9 9"},
        ({"farm_mqtt_lost_qos0_total": "9x5"},),
    ),
    Case(
        "FarmPublicationsRefused",
        "5m",
        {"farm_publications_refused_total": "0 0 9 9 9 9"},
        ({"farm_publications_refused_total": "9x5"},),
    ),
    Case(
        "FarmDiskNearlyFull",
        "9m",
        {"farm_journal_disk_free_bytes": "9e9x9", "farm_journal_disk_bytes": "1e11x9"},
        ({"farm_journal_disk_free_bytes": "2e10x9", "farm_journal_disk_bytes": "1e11x9"},),
    ),
    Case(
        "FarmJournalOutgrowsDisk",
        "19m",
        {
            "farm_journal_limit_bytes": "4e9x20",
            "farm_journal_bytes": "1e9x20",
            "farm_journal_disk_free_bytes": "2.9e9x20",
        },
        (
            {
                "farm_journal_limit_bytes": "4e9x20",
                "farm_journal_bytes": "1e9x20",
                "farm_journal_disk_free_bytes": "3.1e9x20",
            },
            {
                "farm_journal_limit_bytes": "4e9x20",
                "farm_journal_bytes": "4.1e9x20",
                "farm_journal_disk_free_bytes": "1e8x20",
            },
        ),
    ),
    Case(
        "FarmSlowCommits",
        "20m",
        _buckets(_COMMIT, {"0.5": "0+57x20", "1": "0+60x20", "+Inf": "0+60x20"}),
        (_buckets(_COMMIT, {"0.5": "0+60x20", "1": "0+60x20", "+Inf": "0+60x20"}),),
    ),
    Case(
        "FarmLoopStalls",
        "4m",
        # one stall: the broker forgets it after one to two minutes
        {"farm_loop_longest_turn_seconds": "0.05 3 0.05 0.05 0.05"},
        ({"farm_loop_longest_turn_seconds": "0.06x5"},),
    ),
    Case(
        "FarmRestarts",
        "9m",
        {"process_start_time_seconds": "1 1 100 100 200 200 300 300 300 300"},
        ({"process_start_time_seconds": "1 1 100 100 100 100 100 100 100 100"},),
    ),
    Case(
        "FarmStrangers",
        "20m",
        {'farm_peers_refused_total{reason="turned_away"}': "0+90x20"},
        ({'farm_peers_refused_total{reason="turned_away"}': "0+6x20"},),
    ),
)
