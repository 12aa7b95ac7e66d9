"""The overview: what matters first, and tables with as many rows as there is room for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm.telemetry import house, panels, rows
from farm.telemetry.lines import BLANK, Glyphs, Line, Span, beside, line

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDE_COLUMNS = 150  # from here on there are two columns
LEFT_COLUMNS = 74  # of these, the left one
WHOLE_TOOLS, WHOLE_WORKERS = 10, 40  # rows on paper
LEAST_ROWS = 3  # of a table worth its heading
LATENCY_ROOM = 34  # lines from which on the latencies are a table, and not one line
SHARED_ROOM, TALL_ROOM = 12, 30  # lines for two tables, and for three

Shot = dict[str, Any]


def stacked(blocks: Sequence[Sequence[Line]]) -> list[Line]:
    """Blocks one below the other, a blank line between two."""
    made: list[Line] = []
    for block in blocks:
        if block:
            made += [BLANK, *block] if made else block
    return made


def overview(shot: Shot, width: int, room: int, glyphs: Glyphs, text: str = "") -> list[Line]:
    """What matters first; tables get as many rows as there is room for."""
    if width >= WIDE_COLUMNS:
        return _wide_overview(shot, width, room, glyphs, text)
    made = stacked([panels.rates(shot, width, glyphs), panels.outcomes(shot, width, glyphs)])
    if room >= LATENCY_ROOM:
        made = stacked([made, panels.latencies(shot, width, glyphs)])
    else:
        made += panels.latency_line(shot, width, glyphs)
    left = room - len(made)
    blocks = _tables(shot, width, left, glyphs, text)
    made = stacked([made, *blocks])
    for block in (panels.incidents, house.house):
        found = block(shot, width, glyphs)
        if found and len(made) + 1 + len(found) <= room:
            made = stacked([made, found])
    return made


def _wide_overview(shot: Shot, width: int, room: int, glyphs: Glyphs, text: str) -> list[Line]:
    left = stacked([block(shot, LEFT_COLUMNS, glyphs) for block in (
        panels.rates, panels.outcomes, panels.latencies, house.house)])  # fmt: skip
    rest = width - LEFT_COLUMNS - 3
    found = panels.incidents(shot, width, glyphs)
    left_over = room - len(left) - (len(found) + 1 if found else 0)
    below = [] if "farms" in shot else _worst_below(shot, width, left_over, glyphs, text)
    beside_room = len(left) + 1 if below else max(room, len(left)) + 1
    right = stacked(_tables(shot, rest, beside_room, glyphs, text, has_worst=not below))
    made = stacked([beside(left, right, LEFT_COLUMNS + 3, glyphs), below])
    return stacked([made, found]) if found and len(made) + 3 <= room else made


def _worst_below(shot: Shot, width: int, room: int, glyphs: Glyphs, text: str) -> list[Line]:
    """The worst tools at the whole width, which all their columns need, where there is room."""
    bad = rows.matching(_worst_rows(shot), text)
    most = room - 2  # a blank line and the heading
    if not bad or most < min(LEAST_ROWS, len(bad)):
        return []
    return _some(rows.TOOL_FIELDS, bad, most, width, glyphs, key="t", sorted_by=rows.TROUBLES)


def _tables(
    shot: Shot, width: int, room: int, glyphs: Glyphs, text: str, *, has_worst: bool = True
) -> list[list[Line]]:
    """Farms or workers, the worst tools and the loudest, in so many lines."""
    if "farms" in shot:
        return [several(shot, width, glyphs), worst(shot, width, glyphs)]
    workers = rows.matching(shot["workers"], text)
    bad = rows.matching(_worst_rows(shot), text) if has_worst else []
    loud = rows.matching(_loudest_rows(shot), text)
    if text and not (workers or bad or loud):
        return [[rows.nothing_matches(text)]]
    is_tall = room >= TALL_ROOM
    is_shared = (bad or loud) and room >= SHARED_ROOM
    shares = [(workers, 0.45 if is_shared else 1.0), (bad, 0.6 if is_tall else 1.0)]
    if is_tall or not bad:
        shares.append((loud, 1.0))
    made: list[list[Line]] = []
    for found, share in shares:
        most = int(room * share) - 2  # a blank line and the heading
        if not found or (most < LEAST_ROWS and made):
            continue
        if found is workers:
            block = _some(rows.WORKER_FIELDS, found, max(most, LEAST_ROWS), width, glyphs, key="w")
        else:
            block = _some(rows.TOOL_FIELDS, found, most, width, glyphs, key="t",
                          sorted_by=rows.TROUBLES if found is bad else rows.LOUDEST)  # fmt: skip
        made.append(block)
        room -= len(block) + 1
    return made


def _some(
    fields: Sequence[rows.Field], found: Sequence[Shot], most: int, width: int, glyphs: Glyphs,
    *, key: str, sorted_by: int | None = None,
) -> list[Line]:  # fmt: skip
    """The first rows of a table, and how many more there are."""
    shown = found if len(found) <= most else found[: most - 1]
    made = rows.draw(fields, shown, width, glyphs, sorted_by=sorted_by)
    if more := len(found) - len(shown):
        made.append(line(Span(f"and {more} more: {key}", "dim")))
    return made


def _worst_rows(shot: Shot) -> list[Shot]:
    troubled = [row for row in shot.get("tools", {}).get("rows", ()) if row["troubles"]]
    return rows.arranged(troubled, rows.TOOL_FIELDS[rows.TROUBLES])


def _loudest_rows(shot: Shot) -> list[Shot]:
    return rows.arranged(shot.get("tools", {}).get("rows", ()), rows.TOOL_FIELDS[rows.LOUDEST])


def all_workers(shot: Shot, width: int, glyphs: Glyphs) -> list[Line]:
    """Every worker, up to a number."""
    found = shot.get("workers", ())
    if not found:
        return []
    return _some(rows.WORKER_FIELDS, found, WHOLE_WORKERS, width, glyphs, key="farm workers")


def worst(shot: Shot, width: int, glyphs: Glyphs) -> list[Line]:
    """The tools with most troubles."""
    return _top(_worst_rows(shot), rows.TROUBLES, width, glyphs)


def loudest(shot: Shot, width: int, glyphs: Glyphs) -> list[Line]:
    """The tools with most messages a second."""
    return _top(_loudest_rows(shot), rows.LOUDEST, width, glyphs)


def _top(found: list[Shot], by: int, width: int, glyphs: Glyphs) -> list[Line]:
    if not found:
        return []
    return rows.draw(rows.TOOL_FIELDS, found[:WHOLE_TOOLS], width, glyphs, sorted_by=by)


def several(shot: Shot, width: int, glyphs: Glyphs) -> list[Line]:
    """A row for each of several farms; nothing of one."""
    from farm.telemetry.farms import farms  # noqa: PLC0415 - of several farms alone

    return farms(shot, width, glyphs) if "farms" in shot else []
