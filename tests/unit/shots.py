"""Snapshots for the tests of what is drawn: built by the broker's own code, from a made-up day."""

from __future__ import annotations

from typing import Any

from fakes import make_flow

from farm import wire
from farm.adapter import Answer, Finished, Status, Terminal
from farm.broker import snapshot
from farm.broker.history import PERIOD_S, Totals
from farm.config import Config

UP_S = 23 * 3600 + 59 * 60.0
HOST = "drill-host-07.plant.example"


def around(**changes: Any) -> snapshot.Surroundings:
    """A farm of ten workers whose MQTT is up."""
    settings: dict[str, Any] = {
        "instance": "drill-host-07",
        "mqtt": {"state": "connected", "address": "mqtt.plant.example:1883", "reconnects": 2},
        "intake": {"queued": 12, "braked": False, "paused": False, "lost_qos0": 0},
        "journal": {"durability": "process", "queued": 17, "failure": "", "life": 7},
        "expected_workers": 10,
        "failed_slots": [],
        "is_starting": False,
        "is_draining": False,
    }
    return snapshot.Surroundings(**(settings | changes))


def farm_shot(**changes: Any) -> dict[str, Any]:
    """A farm with workers whose every cell is about as long as it gets."""
    flow = make_flow(Config())
    for name in range(1, 11):
        worker = flow.roster.hello(
            name=str(name), host=HOST, pid=4_190_000 + name, local=True, now_s=0.0
        )
        flow.dispatcher.ready(worker, wire.Ready(worker.worker_id, "depthnet-1", "h1" * 8, 0.1, {}))
    made = snapshot.build(flow, around(**changes), now_s=UP_S, started_s=0.0)
    for row in made["workers"]:
        row.update(jobs_done=1_234_567, rss_bytes=312_000_000, job_age_s=12.34, state="draining")
        row["job"] = {"source": "BOX-12/UNIT-0007", "id": "107", "batch": 16, "deaths": 1}
    for summary in made["latency"].values():
        summary.update(p50_s=1.234, p99_s=12.345, p999_s=99.9, max_s=123.456, count=9_999_999)
    return made


def busy_shot(*, is_behind: bool = False, tools: int = 12, **changes: Any) -> dict[str, Any]:
    """A farm at work: curves, a tool that sends rubbish, dead letters, an alert, a slow worker."""
    flow = make_flow(Config())
    for before_s in (150, 90):
        flow.observation.tools.rotate(UP_S - before_s)
    for name in range(1, 5):
        for life in range(1 + 2 * (name == 3)):
            worker = flow.roster.hello(
                name=str(name), host=HOST, pid=4100 + 10 * life + name, local=True, now_s=UP_S - 600
            )
            if life < 2 * (name == 3):
                flow.dispatcher.worker_gone(worker, "killed by SIGKILL", UP_S - 60)
        flow.dispatcher.ready(
            worker, wire.Ready(worker.worker_id, "depthnet-2", "3f9a1c0be27d5846", 0.1, {})
        )
    _drill(flow, tools)
    made = snapshot.build(flow, around(expected_workers=4, **changes), now_s=UP_S, started_s=0.0)
    _work(made)
    if is_behind:
        made["state"] = "FALLING_BEHIND"
        made["throughput"] |= {
            "arrival_rate": 40.0, "processing_rate": 27.5, "backlog": 512, "drain_s": None,
            "pace": "FALLING_BEHIND",
        }  # fmt: skip
        made["jobs"] |= {"pending": 508, "unanswered": 512, "late": 77}
        made["problems"] = ["falling behind: 27.5 holes/s done, 40.0 arrive, 512 wait"]
    return made


def _drill(flow: Any, tools: int) -> None:
    """What came from the tools, and how the last minutes went."""
    tallies, seen = flow.observation.tools, 0
    for number in range(tools):
        source = f"BOX-{number % 3 + 1}/UNIT-{number:04}"
        for _ in range(90 + 30 * number):
            tallies.part(source, UP_S - 0.1 * number - 0.1)
            seen += 1
        for end in range(30 + number):
            terminal = Terminal.PUBLISHED if end % 9 else Terminal.INSUFFICIENT
            flow.observation.ended(source, terminal, 0.05)
            quality = 0.4 if number == 5 and end % 3 == 0 else 0.97
            counts = ("negative_depths",) if number == 4 and end % 10 == 0 else ()
            flow.observation.answered(
                end,
                Finished(source, str(end), Status.OK, 1, "", {}, "m", "h"),
                Answer(Terminal.PUBLISHED, (), counts=counts, quality=quality),
                UP_S - 5,
            )
    bad = "BOX-9/UNIT-0666"
    for _ in range(40):
        tallies.part(bad, UP_S - 1)
        tallies.rejected(bad, "The Result message is no JSON", UP_S - 1)
    for number in range(3):
        reason = "Not paired: no trace arrived within 30 s (present: result)"
        finished = Finished(bad, str(100 + number), Status.FAILED, None, reason, {}, "", "")
        tallies.of(bad).unpaired += 1
        flow.observation.answered(number, finished, Answer(Terminal.DEAD, ()), UP_S - 20 * number)
        flow.observation.ended(bad, Terminal.DEAD, 30.0)
    alert = "BOX-2/UNIT-0004: 5 negative depths in a row within 10 minutes: check that unit"
    flow.observation.incidents.alerted("BOX-2/UNIT-0004", alert, UP_S - 75)
    for number in range(150):
        at_s = UP_S - PERIOD_S * (150 - number)
        flow.observation.history.look(at_s, busy=1 + number % 3)
        flow.observation.history.ended(0.02 + 0.001 * (number % 40))
        totals = Totals(24 * number + (number % 7), 24 * number, number // 50)
        flow.observation.history.close(at_s, totals, backlog=max(0, number - 120))


def _work(made: dict[str, Any]) -> None:
    """What workers and stages would tell."""
    made["throughput"] |= {"arrival_rate": 12.0, "processing_rate": 12.1, "drain_s": 0.0}
    made["holes"] |= {"arrived": 4321, "published": 4100, "insufficient": 200, "dead": 3}
    made["jobs"] |= {"active": 2, "completed": 4303, "unanswered": 18}
    made["dead_letters"] = 3
    made["counts"] |= {"rejected": 40, "negative_depths": 7, "negative_runs": 1, "bounces": 12}
    for number, row in enumerate(made["workers"]):
        row.update(jobs_done=1000 - 300 * number, rss_bytes=52_000_000 + number, up_s=600.0)
        row.update(rate_hz=0.4 if number == 3 else 3.8)
        if number % 2:
            row.update(state="busy", job_age_s=0.043)
            row["job"] = {"source": "BOX-2/UNIT-0004", "id": f"{40 + number}", "batch": 1,
                          "deaths": number // 3}  # fmt: skip
    for stage, mean_s in (
        ("pairing", 0.031), ("queue", 0.0007), ("transport", 0.001), ("reading", 0.0009),
        ("inference", 0.061), ("publishing", 0.0013), ("total", 0.07),
    ):  # fmt: skip
        made["latency"][stage] = {
            "count": 720, "mean_s": mean_s, "p50_s": mean_s, "p99_s": 3 * mean_s,
            "p999_s": 4 * mean_s, "max_s": 5 * mean_s,
        }  # fmt: skip
