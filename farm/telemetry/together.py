"""Several farms as one: sums, the worst state, a row for each. Reads snapshots, and draws them."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from farm.telemetry.view import STATE_STYLES, duration, milliseconds

MISSING = "MISSING"  # the state of a farm that does not answer
_WORST_LAST = ("HEALTHY", "STARTING", "DRAINING", "FALLING_BEHIND", "UNHEALTHY", MISSING)
_SUMS = {
    "throughput": ("arrival_rate", "processing_rate", "backlog"),
    "holes": ("arrived", "published", "insufficient", "skipped", "shed", "dead"),
    "jobs": ("active", "pending", "completed", "unanswered", "unconfirmed_publications"),
}
WIDE_COLUMNS = 150  # from here on there is room for how each hole ended
NAME_CHARS, WIDE_NAME_CHARS = 14, 24  # of what is longer the end is shown: the index is there

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
    if state == "HEALTHY" and problems:
        state = "UNHEALTHY"
    return {
        "state": state,
        "problems": problems,
        **{
            section: {key: sum(shot[section][key] for shot in there.values()) for key in keys}
            for section, keys in _SUMS.items()
        },
        "dead_letters": sum(shot["dead_letters"] for shot in there.values()),
        "of_another_partition": sum(_strays(shot) for shot in there.values()),
        "workers_ready": sum(_ready(shot) for shot in there.values()),
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


def _strays(shot: Shot) -> int:
    return int(shot["counts"].get("of_another_partition", 0))


def _ready(shot: Shot) -> int:
    return sum(row["state"] in ("idle", "busy") for row in shot["workers"])


def render(shot: Shot, width: int) -> RenderableType:
    """The picture of what `together` gave."""
    rows: list[RenderableType] = [_head(shot), Text(), _table(shot, width)]
    return Group(*rows)


def _head(shot: Shot) -> Text:
    farms, pace, holes = shot["farms"], shot["throughput"], shot["holes"]
    line = Text()
    line.append(f"{len(farms)} farms  ", style="bold")
    line.append(shot["state"].replace("_", " "), style=STATE_STYLES.get(shot["state"], "bold red"))
    for problem in shot["problems"]:
        line.append(f"\n  ! {problem}", style="red")
    line.append("\nholes/s  ", style="bold")
    line.append(
        f"{pace['arrival_rate']:.1f} arrive, {pace['processing_rate']:.1f} done, "
        f"backlog {pace['backlog']}"
    )
    line.append("\nholes    ", style="bold")
    line.append(
        f"{holes['arrived']} arrived: {holes['published']} published, "
        f"{holes['insufficient']} insufficient, {holes['skipped']} skipped, "
        f"{holes['shed']} shed, {holes['dead']} dead, {shot['jobs']['unanswered']} open"
    )
    return line


def _table(shot: Shot, width: int) -> Table:
    is_wide = width >= WIDE_COLUMNS
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("farm", no_wrap=True)
    table.add_column("share", no_wrap=True)
    table.add_column("state", no_wrap=True)
    numbers = ["in/s", "out/s", "backlog", "workers", "p99 ms"]
    if is_wide:
        numbers += ["holes", "published", "dead", "open", "of others", "up"]
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    for farm in shot["farms"]:
        table.add_row(*_row(farm["state_dir"], farm["snapshot"], is_wide=is_wide))
    return table


def _name(text: str, *, is_wide: bool) -> str:
    room = WIDE_NAME_CHARS if is_wide else NAME_CHARS
    return text if len(text) <= room else f"…{text[1 - room :]}"


def _row(place: str, shot: Shot | None, *, is_wide: bool) -> list[RenderableType]:
    if shot is None:
        return [Text(_name(place, is_wide=is_wide)), Text("?"), Text(MISSING, style="bold red")]
    pace, holes, share = shot["throughput"], shot["holes"], shot.get("partition") or {}
    cells = [
        _name(shot["instance"], is_wide=is_wide),
        f"{share['index']} of {share['count']}" if share else "all",
        shot["state"].replace("_", " "),
        f"{pace['arrival_rate']:.1f}",
        f"{pace['processing_rate']:.1f}",
        str(pace["backlog"]),
        str(_ready(shot)),
        milliseconds(shot["latency"]["total"]["p99_s"]),
    ]
    if is_wide:
        cells += [
            str(holes["arrived"]),
            str(holes["published"]),
            str(holes["dead"]),
            str(shot["jobs"]["unanswered"]),
            str(_strays(shot)),
            duration(shot["up_s"]),
        ]
    drawn: list[RenderableType] = [Text(cell) for cell in cells]
    drawn[2] = Text(cells[2], style=STATE_STYLES.get(shot["state"], "bold"))
    return drawn
