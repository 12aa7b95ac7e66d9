"""The table of several farms: a row for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm.telemetry.lines import Column, Glyphs, Line, Span, table
from farm.telemetry.units import age, milliseconds, number, rate
from farm.telemetry.verdict import STATE_STYLES

if TYPE_CHECKING:
    from collections.abc import Sequence

UP_STATES = ("idle", "busy")
COLUMNS = (
    Column("farm", 10, is_flexible=True, keeps_end=True),
    Column("share", 8, priority=7),
    Column("state", 14),
    Column("in/s", 6, is_right=True),
    Column("out/s", 6, is_right=True),
    Column("backlog", 7, is_right=True),
    Column("workers", 7, is_right=True, priority=8),
    Column("p99 ms", 6, is_right=True, priority=9),
    Column("holes", 7, is_right=True, priority=6),
    Column("published", 9, is_right=True, priority=5),
    Column("dead", 7, is_right=True, priority=4),
    Column("open", 7, is_right=True, priority=3),
    Column("of others", 9, is_right=True, priority=2),
    Column("up", 6, is_right=True, priority=1),
)

Shot = dict[str, Any]


def farms(shot: Shot, width: int, glyphs: Glyphs) -> list[Line]:
    """A line for each farm, those that do not answer among them."""
    cells = [_row(farm["state_dir"], farm["snapshot"]) for farm in shot["farms"]]
    return table(COLUMNS, cells, width, glyphs)


def ready(shot: Shot) -> int:
    """How many workers are READY."""
    return sum(row["state"] in UP_STATES for row in shot["workers"])


def strays(shot: Shot) -> int:
    """Messages of other partitions."""
    return int(shot["counts"].get("of_another_partition", 0))


def _row(place: str, shot: Shot | None) -> Sequence[str | Span]:
    if shot is None:
        blank = [""] * (len(COLUMNS) - 3)
        return [place, "?", Span("MISSING", STATE_STYLES["MISSING"]), *blank]
    pace, holes, share = shot["throughput"], shot["holes"], shot.get("partition") or {}
    return [
        shot["instance"],
        f"{share['index']} of {share['count']}" if share else "all",
        Span(shot["state"].replace("_", " "), STATE_STYLES.get(shot["state"], "bold")),
        rate(pace["arrival_rate"]),
        rate(pace["processing_rate"]),
        number(pace["backlog"]),
        str(ready(shot)),
        milliseconds(shot["latency"]["total"]["p99_s"]),
        number(holes["arrived"]),
        number(holes["published"]),
        number(holes["dead"]),
        number(shot["jobs"]["unanswered"]),
        number(strays(shot)),
        age(shot["up_s"]),
    ]
