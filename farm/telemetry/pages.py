"""The pages beside the overview: workers, tools, what went wrong, help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm.telemetry import panels, rows
from farm.telemetry.lines import BLANK, Glyphs, Line, Span, line, wrap
from farm.telemetry.units import many

if TYPE_CHECKING:
    from collections.abc import Sequence

    from farm.telemetry.keyboard import Looking

Shot = dict[str, Any]


def worker_page(shot: Shot, looking: Looking, width: int, glyphs: Glyphs) -> list[Line]:
    """Every worker, sorted and filtered."""
    every = shot.get("workers", [])
    found = rows.matching(every, looking.filter)
    return _sorted_page(
        rows.WORKER_FIELDS, found, looking.worker_sort, width, glyphs,
        is_reversed=looking.is_worker_reversed, title=_of_all("worker", found, every),
        text=looking.filter,
    )  # fmt: skip


def tool_page(shot: Shot, looking: Looking, width: int, glyphs: Glyphs) -> list[Line]:
    """The loudest and the worst tools, sorted and filtered, and the others as one."""
    told = shot.get("tools") or {"rows": [], "known": 0}
    every = told["rows"]
    found = rows.matching(every, looking.filter)
    title = _of_all("tool", found, every)
    hidden = told["known"] - len(every)
    if hidden > 0:
        # beyond what the broker keeps apart, one that came back is counted as often as it came
        most = "at most " if told.get("folded") else ""
        title += f", the loudest and the worst of {most}{told['known']}"
    if hidden > 0 and not looking.filter:
        others = "(all others)" if told.get("folded") else f"({hidden} others)"
        found = [*found, told["others"] | {"source": others}]
    # begins with the worst
    return _sorted_page(
        rows.TOOL_FIELDS, found, looking.tool_sort + 1, width, glyphs,
        is_reversed=looking.is_tool_reversed, title=title, text=looking.filter,
    )  # fmt: skip


def _of_all(noun: str, found: Sequence[Shot], every: Sequence[Shot]) -> str:
    if len(found) == len(every):
        return many(len(every), noun)
    return f"{len(found)} of {many(len(every), noun)}"


def _sorted_page(
    fields: Sequence[rows.Field], found: Sequence[Shot], sort: int, width: int, glyphs: Glyphs,
    *, is_reversed: bool, title: str, text: str,
) -> list[Line]:  # fmt: skip
    order = rows.sortable(fields, found, width)
    by = order[sort % len(order)]
    found = rows.arranged(found, fields[by], is_reversed=is_reversed)
    title = f"{title}, by {fields[by].column.title}"
    hints = ("   s next column, r reverse, / filter", "   s, r, /: see ?", "")
    hint = next(each for each in hints if len(title) + len(each) <= width or not each)
    made = [line(Span(title + hint, "dim"))]
    if text and not found:
        return [*made, rows.nothing_matches(text)]
    drawn = rows.draw(fields, found, width, glyphs, sorted_by=by, is_reversed=is_reversed)
    return [*made, *drawn]


def dead_page(shot: Shot, looking: Looking, width: int, glyphs: Glyphs) -> list[Line]:
    """What went wrong of late, filtered."""
    told = shot.get("incidents", {"dead": [], "alerts": []})
    events = {name: rows.matching(told[name], looking.filter) for name in told}
    ended = rows.matching(shot.get("workers_ended", ()), looking.filter)
    found = {"incidents": events, "workers_ended": ended}
    waiting = shot["dead_letters"]
    first = "farm dead list shows all of them, farm why TOOL ID the story of one"
    if looking.filter and not any((*events.values(), ended)):
        lines = [rows.nothing_matches(looking.filter)]
    else:
        lines = panels.incidents(found, width, glyphs) or [line("nothing went wrong of late")]
    return [line(Span(first if waiting else "no dead letter waits", "dim")), BLANK, *lines]


HELP = (
    ("o w t l d", "overview, workers, tools, latency and house, dead letters and alerts"),
    ("Tab", "the next page"),
    ("s r", "on w and t: sort by the next column; reverse"),
    ("/ or f", "show only what contains a text, on this page; Enter keeps it, Esc clears it"),
    ("up down", "scroll; also PgUp, PgDn, Home, End"),
    ("p", "pause, and go on"),
    ("1 2 5", "look every so many seconds"),
    ("?", "this page, and back"),
    ("q", "quit; so does Ctrl-C; Ctrl-Z pauses it in the shell"),
)
FIGURES = (
    ("arrive, done", "complete holes a second, over throughput.window_s; the curve each 2 s"),
    ("backlog", "complete holes that wait for a worker, or too long for MQTT's confirmation"),
    ("slowest", "the longest of 2 s, from a hole's last message to MQTT's confirmation"),
    ("workers", "how many compute, on average over 2 s, of those that are READY"),
    ("bad", "of a tool: holes that died, are negative or unsure, each once, and unread messages"),
    ("dead", "holes that ended without an answer; those that lacked a message (unpaired), too"),
    ("unread", "messages that belong to no hole"),
    ("negative, runs", "negative depths, and rows of them that reached the threshold"),
    ("unsure", "answers whose Quality is below 0.5"),
    ("restarts", "processes that came after the first in a worker's place"),
)  # fmt: skip


def help_page(width: int) -> list[Line]:
    """The keys, and what the figures mean."""
    made: list[Line] = []
    for told in (HELP, FIGURES):
        cells = max(len(key) for key, _ in told)
        if made:
            made.append(BLANK)
        for key, text in told:
            for n, piece in enumerate(wrap(text, width - cells - 2)):
                made.append(line(Span(f"{'' if n else key:<{cells}}  ", "bold"), piece))
    return [*made, BLANK, line("All of it: docs/stats.md")]
