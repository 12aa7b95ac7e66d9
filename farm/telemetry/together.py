"""Several farms as one: sums, the worst state, a row for each. Reads snapshots; draws nothing.

A site is upgraded farm by farm: what the snapshot of an older one lacks is nothing, and no fault.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from farm.telemetry.farms import ready, strays

if TYPE_CHECKING:
    from collections.abc import Mapping

MISSING = "MISSING"  # the state of a farm that does not answer
_WORST_LAST = ("HEALTHY", "STARTING", "DRAINING", "FALLING_BEHIND", "UNHEALTHY", MISSING)

Shot = dict[str, Any]

_SUMS = {
    "throughput": ("arrival_rate", "processing_rate", "backlog"),
    "holes": ("arrived", "published", "insufficient", "skipped", "shed", "dead"),
    "jobs": ("active", "pending", "completed", "unanswered", "unconfirmed_publications"),
}

# What stands for a section, or a part of one, that a snapshot lacks.
_NOTHING: Shot = {
    "instance": "?",
    "state": "UNHEALTHY",
    "problems": [],
    "up_s": 0.0,
    "dead_letters": 0,
    "workers_expected": 0,
    "counts": {},
    "latency": {"total": {"p99_s": None}},
    **{section: dict.fromkeys(keys, 0) for section, keys in _SUMS.items()},
    "history": {},
    "tools": {"known": 0, "folded": 0, "shown": 0, "window_s": 0.0, "rows": [], "others": {}},
    "incidents": {"dead": [], "alerts": []},
    "workers": [],
    "workers_ended": [],
}
_CURVES = ("arrived_hz", "ended_hz", "backlog", "busy", "slowest_s")  # that are drawn
_NO_SUMS = ("quality_mean", "silent_s", "reason", "reason_age_s")
_NO_WORKER: Shot = {
    "name": "?",
    "state": "?",
    "host": "?",
    "key": "",
    "pid": 0,
    "model_version": "",
    "model_hash": "",
    "job": None,
    "job_age_s": None,
    "jobs_done": 0,
    "rate_hz": 0.0,
    "rss_bytes": 0,
    "up_s": 0.0,
}
_NO_TOOL: Shot = {
    "source": "?",
    "parts": 0,
    "parts_hz": 0.0,
    "holes": 0,
    "holes_hz": 0.0,
    "troubles": 0,
    "published": 0,
    "insufficient": 0,
    "dead": 0,
    "unpaired": 0,
    "rejected": 0,
    "negative_depths": 0,
    "negative_runs": 0,
    "low_quality": 0,
    "quality_mean": None,
    "silent_s": None,
    "reason": "",
    "reason_age_s": None,
}


def together(shots: dict[str, Shot | None], reasons: Mapping[str, str] | None = None) -> Shot:
    """One snapshot of several.

    Args:
        shots: by state directory; None for a farm that does not answer.
        reasons: why one does not, where it is known.
    """
    shots = {place: shot and _filled(shot) for place, shot in shots.items()}
    there = {place: shot for place, shot in shots.items() if shot is not None}
    states = [MISSING if shot is None else str(shot["state"]) for shot in shots.values()]
    why = {} if reasons is None else reasons
    problems = [
        f"{place}: {why.get(place, 'no farm answers')}"
        for place, shot in shots.items()
        if shot is None
    ]
    problems += _of_the_group(there, is_all=len(there) == len(shots))
    for shot in there.values():
        problems += [f"{shot['instance']}: {problem}" for problem in shot["problems"]]
    state = max(states, key=_rank)
    sums: Shot = {
        section: {key: sum(shot[section][key] for shot in there.values()) for key in keys}
        for section, keys in _SUMS.items()
    }
    pace = sums["throughput"]
    shrinks_hz = pace["processing_rate"] - pace["arrival_rate"]
    pace["drain_s"] = pace["backlog"] / shrinks_hz if shrinks_hz > 0 else None
    if state == "HEALTHY" and problems:
        state = "UNHEALTHY"
    return {
        "state": state,
        "problems": problems,
        **sums,
        "dead_letters": sum(shot["dead_letters"] for shot in there.values()),
        "of_another_partition": sum(map(strays, there.values())),
        "workers_ready": sum(map(ready, there.values())),
        "workers_expected": sum(shot["workers_expected"] for shot in there.values()),
        "counts": dict(sum((Counter(shot["counts"]) for shot in there.values()), Counter())),
        "history": _curves(list(there.values())),
        "tools": _tools(list(there.values())),
        "incidents": _incidents(list(there.values())),
        "workers": _named(list(there.values()), "workers"),
        "workers_ended": sorted(
            _named(list(there.values()), "workers_ended"), key=lambda row: row["age_s"]
        ),
        "farms": [{"state_dir": place, "snapshot": shot} for place, shot in shots.items()],
    }


def _rank(state: str) -> int:
    return _WORST_LAST.index(state) if state in _WORST_LAST else len(_WORST_LAST) - 2


def _of_the_group(shots: dict[str, Shot], *, is_all: bool) -> list[str]:
    """Which partitions are in none of the folders (where all of these answer), or in two."""
    of_group: dict[str, list[Shot]] = {}
    for shot in shots.values():
        if shot.get("partition"):
            of_group.setdefault(shot["partition"]["group"], []).append(shot["partition"])
    found = []
    for group, members in sorted(of_group.items()):
        indices = [member["index"] for member in members]
        count = max(member["count"] for member in members)
        found += [
            f"partition {index} of {count} of group {group} is in none of these folders"
            for index in range(count)
            if is_all and index not in indices
        ]
        found += [
            f"partition {index} of group {group} is in {indices.count(index)} of these folders"
            for index in sorted(set(indices))
            if indices.count(index) > 1
        ]
    return found


def _curves(shots: list[Shot]) -> Shot:
    """The curves of all, one upon the other; they end now, and some began later.

    Only those that all have which tell any, and of one period: else it would be a sum of some.
    """
    told = [shot["history"] for shot in shots if shot["history"]]
    period_s = told[0]["period_s"] if told else 1.0
    told = [each for each in told if each["period_s"] == period_s]
    names = [
        name
        for name in (told[0] if told else {})
        if name != "period_s" and all(name in each for each in told)
    ]
    length = max((len(values) for each in told for values in map(each.get, names)), default=0)

    def column(name: str, place: int) -> float:
        """One sample of all; of the slowest holes the slowest."""
        values: list[float] = [each[name][-place] for each in told if place <= len(each[name])]
        return max(values) if name == "slowest_s" else sum(values)

    curves = {name: [column(name, place) for place in range(length, 0, -1)] for name in names}
    return {"period_s": period_s, **{name: [] for name in _CURVES}, **curves}


def _tools(shots: list[Shot]) -> Shot:
    """The rows of all: each tool is one farm's, but around a cut."""
    told = [shot["tools"] for shot in shots]
    return {
        "known": sum(each["known"] for each in told),
        "folded": sum(each["folded"] for each in told),
        "shown": sum(each["shown"] for each in told),
        "window_s": max((each["window_s"] for each in told), default=0.0),
        "rows": [row for each in told for row in each["rows"]],
        "others": _as_one([each["others"] for each in told]),
    }


def _as_one(rows: list[Shot]) -> Shot:
    """Many tools' rows as one: counts and rates are added, what is no sum is not."""
    one: Shot = {}
    for row in rows:
        for key, value in row.items():
            if key in _NO_SUMS or not isinstance(value, int | float):
                one.setdefault(key, None if key in _NO_SUMS else value)
            else:
                one[key] = one.get(key, 0) + value
    heard = [row["silent_s"] for row in rows if row.get("silent_s") is not None]
    told = [row for row in rows if row.get("reason_age_s") is not None]
    if heard:
        one["silent_s"] = min(heard)
    if told:
        last = min(told, key=lambda row: float(row["reason_age_s"]))
        one |= {"reason": last["reason"], "reason_age_s": last["reason_age_s"]}
    # How many qualities there were is not told: about as many as answers were published.
    judged = [row for row in rows if row.get("quality_mean") is not None]
    if weight := sum(row["published"] for row in judged):
        mean = sum(row["quality_mean"] * row["published"] for row in judged) / weight
        one["quality_mean"] = mean
    return one


def _filled(shot: Shot) -> Shot:
    """A snapshot with all that is read here."""
    made = _NOTHING | shot
    for section, nothing in _NOTHING.items():
        if isinstance(nothing, dict):
            made[section] = nothing | (shot.get(section) or {})
    made["workers"] = [_NO_WORKER | row for row in made["workers"]]
    tools = made["tools"]
    made["tools"] = tools | {
        "rows": [_NO_TOOL | row for row in tools["rows"]],
        "others": _NO_TOOL | tools["others"],
    }
    return made


def _named(shots: list[Shot], section: str) -> list[Shot]:
    """Rows of workers, whose names begin with that of their farm."""
    made = []
    for place, shot in enumerate(shots):
        share = shot.get("partition") or {}
        prefix = share.get("index", place)
        made += [row | {"name": f"{prefix}:{row['name']}"} for row in shot[section]]
    return made


def _incidents(shots: list[Shot]) -> Shot:
    told = [shot["incidents"] for shot in shots]
    return {
        kind: sorted((row for each in told for row in each[kind]), key=lambda row: row["age_s"])
        for kind in ("dead", "alerts")
    }
