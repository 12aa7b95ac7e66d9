"""The answer in words: does the farm keep up, what is wrong, and what to do about it.

Owns the sentence on top and the cures. What is wrong is the snapshot's (`problems`).
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from farm.telemetry.units import duration, many

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CATCHING_UP_S = 2.0  # of arrivals: a backlog that is shorter comes and goes
LEAST_BACKLOG = 10
IDLE_S = 10.0  # without a message
LOAD = 0.7  # at which holes hardly wait, as farm.scaler has it
SLOW_SHARE = 0.5  # of what the others do, in an overload
RESTARTS_HZ = 1 / 60  # of one worker, from which on it is more than bad luck
LEAST_RESTARTS = 3
UP_STATES = ("idle", "busy")
STATE_STYLES = {
    "HEALTHY": "bold green",
    "STARTING": "bold cyan",
    "DRAINING": "bold cyan",
    "FALLING_BEHIND": "bold yellow",
    "UNHEALTHY": "bold red",
    "MISSING": "bold red",
}

Shot = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that is wrong, and what to do about it; either may be empty."""

    problem: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The sentence on top, its style, and what is to be said below it."""

    sentence: str
    style: str
    remarks: tuple[Remark, ...]


def verdict(shot: Shot) -> Verdict:
    """What an operator should know first of a farm, or of several as one."""
    remarks = tuple(_remarks(shot))
    return Verdict(_sentence(shot), STATE_STYLES.get(shot["state"], "bold red"), remarks)


# ---- the sentence ------------------------------------------------------------------------------


def _sentence(shot: Shot) -> str:
    state, open_holes = shot["state"], shot["jobs"]["unanswered"]
    if state == "DRAINING":
        done = shot["throughput"]["processing_rate"]
        end = f", in about {duration(open_holes / done)}" if open_holes and done else ""
        return f"Draining: takes in nothing new, {many(open_holes, 'hole')} to be answered{end}."
    if state == "STARTING":
        return f"Starting: {_ready(shot)} of {shot.get('workers_expected', 0)} workers are READY."
    if stopped := _stopped(shot):
        return f"Takes nothing in: {stopped}. {_waiting(shot)}"
    return _missing(shot) + _pace(shot)


def _missing(shot: Shot) -> str:
    """How many of several farms do not answer, as a sentence before the one about the others."""
    farms = shot.get("farms", ())
    missing = sum(farm["snapshot"] is None for farm in farms)
    verb = "does" if missing == 1 else "do"
    return f"{missing} of {many(len(farms), 'farm')} {verb} not answer. " if missing else ""


def _is_behind(shot: Shot) -> bool:
    states = [farm["snapshot"]["state"] for farm in shot.get("farms", ()) if farm["snapshot"]]
    return "FALLING_BEHIND" in (shot["state"], *states)


def _pace(shot: Shot) -> str:
    pace = shot["throughput"]
    arrival, done, backlog = pace["arrival_rate"], pace["processing_rate"], pace["backlog"]
    rates = f"{arrival:.1f} holes/s arrive, {done:.1f} are answered"
    if _is_behind(shot) and (arrival > done or not done):
        if arrival > done:
            behind = f"Falling behind by {arrival - done:.1f} holes/s"
            return f"{behind}: {arrival:.1f} arrive, {done:.1f} are answered, {backlog} wait."
        return f"Stands still: {many(backlog, 'hole waits', 'holes wait')}, none is answered."
    if backlog > max(LEAST_BACKLOG, CATCHING_UP_S * arrival):
        drain_s = pace.get("drain_s")
        end = f"drained in {duration(drain_s)}" if drain_s else "and do not get fewer"
        return f"Works off a backlog: {backlog} wait, {end}; {rates}."
    if not arrival and not backlog:
        return f"Nothing to do: {_since(shot)}."
    waits = f"{many(backlog, 'waits', 'wait')}" if backlog else "none waits"
    return f"Keeps up: {rates}, {waits}."


def _stopped(shot: Shot) -> str:
    """Why nothing comes in; "" where it does. Several farms are not asked."""
    if "mqtt" not in shot:
        return ""
    if shot["mqtt"]["state"] != "connected":
        return f"MQTT is {shot['mqtt']['state']}"
    if shot["intake"].get("paused"):
        return "an operator has paused it"
    if shot["journal"].get("failure"):
        return "the journal can't be written"
    return ""


def _waiting(shot: Shot) -> str:
    open_holes = shot["jobs"]["unanswered"]
    if not open_holes:
        return "No hole is open."
    return f"{many(open_holes, 'hole is', 'holes are')} still to be answered."


def _since(shot: Shot) -> str:
    silent = [row["silent_s"] for row in shot.get("tools", {}).get("rows", ())]
    known = [silent_s for silent_s in silent if silent_s is not None]
    if not known:
        return "no message has come yet"
    newest_s = min(known)
    if newest_s < IDLE_S:
        return "no complete hole has come of late"
    return f"the last message came {duration(newest_s)} ago"


# ---- what is wrong, and what to do -------------------------------------------------------------


def _remarks(shot: Shot) -> Iterator[Remark]:
    is_single = "mqtt" in shot
    for problem in shot["problems"]:
        if shot["state"] == "STARTING" and problem.startswith("falling behind"):
            continue  # what it has taken up waits for the workers
        cure = _cure(problem, shot) if is_single else ""
        is_said = is_single and problem.startswith("falling behind") and _pace_is_said(shot)
        if cure or not is_said:
            yield Remark("" if is_said else problem, cure)
    if not is_single:
        return
    yield from _slow_workers(shot)
    yield from _restless_workers(shot)
    if waiting := shot["dead_letters"]:
        yield Remark(f"{many(waiting, 'dead letter')} to be dealt with", "farm dead list")


def _pace_is_said(shot: Shot) -> bool:
    return shot["state"] == "FALLING_BEHIND" and not _stopped(shot)


def _cure(problem: str, shot: Shot) -> str:
    """What to do, where the problem does not say so itself."""
    for words, told in _CURES:
        if words in problem:
            return told(shot)
    return ""


def _of_mqtt(shot: Shot) -> str:
    reason = shot["mqtt"].get("reason") or ""
    told = f"{reason}: " if reason else ""
    return f"{told}look whether a broker runs at {shot['mqtt']['address']} (farm doctor)"


def _of_no_worker(shot: Shot) -> str:
    if any(row["state"] == "loading" for row in shot["workers"]):
        return "they load the model; this takes seconds"
    if shot.get("workers_ended"):
        return "see below how the last ones ended, and the farm's log"
    return "start some with farm scale N, or attach one (farm keys --help)"


def _of_few_workers(shot: Shot) -> str:
    loading = sum(row["state"] == "loading" for row in shot["workers"])
    if loading:
        return f"{many(loading, 'loads', 'load')} the model"
    return "the others wait to be started again; page w shows how they ended"


def _of_pace(shot: Shot) -> str:
    """By Little's law, how many workers would do; or what else is slow."""
    ready, latency = _ready(shot), shot["latency"]
    if not ready:
        return ""
    busy = shot.get("history", {}).get("busy", [])[-5:]
    pending = shot["jobs"]["pending"]
    if not pending and shot["jobs"]["unconfirmed_publications"]:
        return "the workers are done: the MQTT broker is slow to confirm the answers"
    if busy and max(busy) < ready * SLOW_SHARE and not pending:
        return ""
    stages = [latency[stage]["mean_s"] for stage in ("reading", "inference") if stage in latency]
    service_s = sum(mean_s for mean_s in stages if mean_s)
    needed = math.ceil(shot["throughput"]["arrival_rate"] * service_s / LOAD)
    if needed > ready:
        return f"about {needed} workers would keep up: farm scale {needed}, if there are cores"
    return "see on page l which stage is slow, on page w which worker"


def _of_brake(_shot: Shot) -> str:
    return "it goes on by itself as holes are answered; more workers help (farm scale N)"


def _of_failed(_shot: Shot) -> str:
    return "mend the cause that the farm's log tells, then farm reload"


_CURES: tuple[tuple[str, Callable[[Shot], str]], ...] = (
    ("MQTT is ", _of_mqtt),
    ("no worker is READY", _of_no_worker),
    ("workers are READY", _of_few_workers),
    ("falling behind", _of_pace),
    ("intake waits for", _of_brake),
    ("holes are shed", _of_brake),
    ("is FAILED", _of_failed),
)


def _slow_workers(shot: Shot) -> Iterator[Remark]:
    """One that does far less than the others, while work waits for all."""
    if shot["throughput"]["backlog"] <= LEAST_BACKLOG:
        return
    rows = [row for row in shot["workers"] if row["state"] in UP_STATES and row["up_s"] > IDLE_S]
    if len(rows) < 3:
        return
    usual = statistics.median(row["rate_hz"] for row in rows)
    for row in rows:
        if row["rate_hz"] < SLOW_SHARE * usual:
            yield Remark(
                f"worker {row['name']} is slow: {row['rate_hz']:.1f} holes/s, others {usual:.1f}",
                f"look at its machine ({row['host']}), or farm workers drain {row['name']}",
            )


def _restless_workers(shot: Shot) -> Iterator[Remark]:
    for row in shot["workers"]:
        restarts = row.get("restarts", 0)
        if restarts >= LEAST_RESTARTS and restarts / max(shot["up_s"], 1.0) > RESTARTS_HZ:
            yield Remark(
                f"worker {row['name']} was started again {restarts} times in "
                f"{duration(shot['up_s'])}",
                f"the last one ended by: {row['last_end']}" if row["last_end"] else "",
            )


def _ready(shot: Shot) -> int:
    return sum(row["state"] in UP_STATES for row in shot.get("workers", ()))
