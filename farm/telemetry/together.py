"""Several farms as one: sums, the worst state, a row for each. Reads snapshots; draws nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

from farm.telemetry.farms import ready, strays

MISSING = "MISSING"  # the state of a farm that does not answer
_WORST_LAST = ("HEALTHY", "STARTING", "DRAINING", "FALLING_BEHIND", "UNHEALTHY", MISSING)
_SUMS = {
    "throughput": ("arrival_rate", "processing_rate", "backlog"),
    "holes": ("arrived", "published", "insufficient", "skipped", "shed", "dead"),
    "jobs": ("active", "pending", "completed", "unanswered", "unconfirmed_publications"),
}

Shot = dict[str, Any]


def together(shots: dict[str, Shot | None]) -> Shot:
    """One snapshot of several.

    Args:
        shots: by state directory; None for a farm that does not answer.
    """
    there = {place: shot for place, shot in shots.items() if shot is not None}
    states = [MISSING if shot is None else str(shot["state"]) for shot in shots.values()]
    problems = [f"{place}: no farm answers" for place, shot in shots.items() if shot is None]
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
    """The curves of all, one upon the other; they end now, and some began later."""
    told = [shot["history"] for shot in shots]
    names = [name for name in (told[0] if told else {}) if name != "period_s"]
    length = max((len(each["arrived_hz"]) for each in told), default=0)

    def column(name: str, place: int) -> float:
        """One sample of all; of the slowest holes the slowest."""
        values: list[float] = [each[name][-place] for each in told if place <= len(each[name])]
        return max(values) if name == "slowest_s" else sum(values)

    curves = {name: [column(name, place) for place in range(length, 0, -1)] for name in names}
    return {"period_s": told[0]["period_s"] if told else 1.0, **curves}


def _tools(shots: list[Shot]) -> Shot:
    """The rows of all: each tool is one farm's, but around a cut."""
    told = [shot["tools"] for shot in shots]
    others: Shot = {}
    for each in told:
        for key, value in each["others"].items():
            is_count = isinstance(value, int | float) and isinstance(
                others.get(key, 0), int | float
            )
            others[key] = others.get(key, 0) + value if is_count else value
    return {
        "known": sum(each["known"] for each in told),
        "shown": sum(each["shown"] for each in told),
        "window_s": max((each["window_s"] for each in told), default=0.0),
        "rows": [row for each in told for row in each["rows"]],
        "others": others,
    }


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
