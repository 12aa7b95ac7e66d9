"""The parts of a picture of a farm: each is lines for a width, from a snapshot.

A section that a snapshot lacks, as that of several farms does, gives no lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from farm.telemetry.lines import BLANK, Column, Glyphs, Line, Span, line, sparkline, table, wrap
from farm.telemetry.units import age, duration, latency, many, milliseconds, number, rate
from farm.telemetry.words import COUNT_WORDS, STAGE_WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LABEL_CELLS = 9
NOW_CELLS, PEAK_CELLS = 8, 8
LEAST_CURVE_CELLS = 8
STAGE_CELLS = 10
END_CELLS = 10
QUIET_BACKLOG, QUIET_S = 10.0, 0.1  # a curve of less stays low: it is nothing to look at

Shot = dict[str, Any]


# ---- how it goes -------------------------------------------------------------------------------


def rates(shot: Shot, width: int, glyphs: Glyphs) -> list[Line]:
    """Holes in and out, what waits, how slow the slowest was, how busy the workers: as curves."""
    history = shot.get("history")
    if not history:
        return []
    room = width - LABEL_CELLS - NOW_CELLS - PEAK_CELLS - 4
    cells = max(room, 0) if room >= LEAST_CURVE_CELLS else 0
    span_s = history["period_s"] * min(cells, len(history["arrived_hz"]))
    past = f"last {duration(span_s)}" if cells >= 16 else ""
    head = f"{'holes':<{LABEL_CELLS}}  {past:<{cells}}{'now':>{NOW_CELLS}}  {'peak':>{PEAK_CELLS}}"
    made = [line(Span(head, "bold"))]
    made += [_curve_line(curve, cells, glyphs) for curve in _curves(shot, history)]
    return made


class _Curve(NamedTuple):
    """One quantity over time."""

    label: str
    values: Sequence[float]
    now: str
    peak: str
    style: str = ""
    top: float = 0.0  # what fills a cell, if nothing was higher


def _curves(shot: Shot, history: Shot) -> Iterator[_Curve]:
    pace, busy, slowest = shot["throughput"], history["busy"], history["slowest_s"]
    busiest = max((*history["arrived_hz"], *history["ended_hz"]), default=0.0)
    for label, name, told, style in (
        ("arrive/s", "arrived_hz", pace["arrival_rate"], "cyan"),
        ("done/s", "ended_hz", pace["processing_rate"], "green"),
    ):
        values = history[name]
        yield _Curve(label, values, rate(told), rate(max((*values, told))), style, busiest)
    waiting, style = pace["backlog"], "yellow" if pace["backlog"] else ""
    values = history["backlog"]
    peak = number(round(max((*values, waiting))))
    yield _Curve("backlog", values, number(waiting), peak, style, QUIET_BACKLOG)
    now, peak = latency(_last(slowest) or None), latency(max(slowest, default=0.0) or None)
    yield _Curve("slowest", slowest, now, peak, "", QUIET_S)
    ready = sum(row["state"] in ("idle", "busy") for row in shot.get("workers", ()))
    now, peak = f"{_last(busy):.1f}/{ready}", f"{max(busy, default=0.0):.1f}"
    yield _Curve("workers", busy, now, peak, "", float(max(ready, 1)))


def _curve_line(curve: _Curve, cells: int, glyphs: Glyphs) -> Line:
    top = max(curve.top, max(curve.values, default=0.0))
    return line(
        f"{curve.label:<{LABEL_CELLS}}  ",
        Span(sparkline(curve.values, cells, glyphs, top=top), curve.style),
        f"{curve.now:>{NOW_CELLS}}  ",
        Span(f"{curve.peak:>{PEAK_CELLS}}", "dim"),
    )


def _last(values: Sequence[float]) -> float:
    return values[-1] if values else 0.0


# ---- how holes end -----------------------------------------------------------------------------


def outcomes(shot: Shot, width: int, _glyphs: Glyphs) -> list[Line]:
    """How the holes ended, since the broker process started."""
    holes = shot["holes"]
    words = [("", f"{number(holes['arrived'])} arrived")]
    for name, style in (
        ("published", "green"), ("insufficient", ""), ("skipped", "yellow"), ("shed", "yellow"),
        ("dead", "red"),
    ):  # fmt: skip
        if name in ("skipped", "shed") and not holes[name]:
            continue
        words.append((style if holes[name] else "dim", f"{number(holes[name])} {name}"))
    words.append(("", f"{number(shot['jobs']['unanswered'])} open"))
    counts = shot.get("counts", {})
    for key, one, more in (
        ("negative_depths", "negative depth", ""),
        ("negative_runs", "run of negatives", "runs of negatives"),
    ):
        if counts.get(key):
            words.append(("yellow", many(counts[key], one, more)))
    if rejected := counts.get("rejected"):
        words.append(("yellow", many(rejected, "unreadable message")))
    return flowing("holes", words, width)


def flowing(label: str, words: Sequence[tuple[str, str]], width: int) -> list[Line]:
    """Words of different styles after a label, in as many lines as they take."""
    made: list[list[Span]] = [[Span(f"{label:<{LABEL_CELLS}}  ", "bold")]]
    used = LABEL_CELLS + 2
    for place, (style, text) in enumerate(words):
        comma = "" if place == len(words) - 1 else ","
        space = " " if used > LABEL_CELLS + 2 else ""
        if space and used + 1 + len(text) + len(comma) > width:
            made.append([Span(" " * (LABEL_CELLS + 2))])
            used, space = LABEL_CELLS + 2, ""
        made[-1] += [Span(space), Span(text, style), Span(comma)]
        used += len(space) + len(text) + len(comma)
    return [line(*spans) for spans in made]


def labelled(label: str, text: str, width: int, style: str = "") -> list[Line]:
    """A label and a text, wrapped beside it."""
    pieces = wrap(text, width - LABEL_CELLS - 2)
    return [
        line(Span(f"{label if not n else '':<{LABEL_CELLS}}  ", "bold"), Span(piece, style))
        for n, piece in enumerate(pieces)
    ]


def seen(shot: Shot, width: int, _glyphs: Glyphs) -> list[Line]:
    """What else was counted."""
    found = [
        ("dim", f"{COUNT_WORDS[key]}: {number(n)}")  # its noun is not always of that number
        for key, n in shot.get("counts", {}).items()
        if key in COUNT_WORDS and n
    ]
    return flowing("seen", found, width) if found else []


# ---- how long it takes -------------------------------------------------------------------------


def latencies(shot: Shot, width: int, glyphs: Glyphs) -> list[Line]:
    """Each stage of a hole's way; the slowest of them stands out."""
    columns = [
        Column("latency, ms", STAGE_CELLS + 1),
        *(Column(name, 7, is_right=True) for name in ("p50", "p99")),
        Column("p99.9", 7, is_right=True, priority=3),
        Column("max", 7, is_right=True),
        Column("holes", 8, is_right=True, priority=1),
        Column("", 22, priority=2, is_flexible=True, style="dim"),
    ]
    told = shot.get("latency")
    if not told:
        return []
    stages = {name: each["p50_s"] or 0.0 for name, each in told.items() if name not in WHOLE}
    slowest = max(stages, key=stages.__getitem__) if any(stages.values()) else ""
    rows: list[list[str | Span]] = []
    for stage, summary in told.items():
        values = [milliseconds(summary.get(f"{p}_s")) for p in ("p50", "p99", "p999", "max")]
        style = "bold" if stage == "total" else "yellow" if stage == slowest else ""
        cells = [stage, *values, number(summary["count"])]
        rows.append([*(Span(cell, style) for cell in cells), STAGE_WORDS.get(stage, "")])
    return table(columns, rows, width, glyphs)


WHOLE = ("total", "pairing")  # the sum of the others, and what the units' own gateways take


def latency_line(shot: Shot, width: int, _glyphs: Glyphs) -> list[Line]:
    """The same in one line, where there is room for no more."""
    told = shot.get("latency")
    if not told:
        return []
    total = told["total"]
    if not total["count"]:
        return labelled("latency", "none was answered in the last minute", width)
    stages = {n: each["p50_s"] for n, each in told.items() if n not in WHOLE and each["p50_s"]}
    slowest = max(stages, key=stages.__getitem__, default="")
    most = f"; of it {STAGE_WORDS[slowest]} {latency(stages[slowest])}" if slowest else ""
    text = f"p50 {latency(total['p50_s'])}, p99 {latency(total['p99_s'])}, max "
    return labelled("latency", f"{text}{latency(total['max_s'])}{most}", width)


# ---- what went wrong ---------------------------------------------------------------------------


def incidents(shot: Shot, width: int, _glyphs: Glyphs) -> list[Line]:
    """The last dead letters, alerts and ends of workers, in words."""
    made: list[Line] = []
    told = shot.get("incidents", {})
    for title, rows in (
        ("last dead letters", [
            (row["age_s"], f"{row['source']} {row['id']}", row["reason"])
            for row in told.get("dead", ())
        ]),
        ("last alerts", [(row["age_s"], "", row["text"]) for row in told.get("alerts", ())]),
        ("last ends of workers", [
            (row["age_s"], f"worker {row['name']}", row["cause"])
            for row in shot.get("workers_ended", ())
        ]),
    ):  # fmt: skip
        if not rows:
            continue
        if made:
            made.append(BLANK)
        made.append(line(Span(title, "bold")))
        for age_s, who, why in rows:
            made += _incident(age_s, who, why, width)
    return made


def _incident(age_s: float, who: str, why: str, width: int) -> Iterator[Line]:
    text = f"{who}: {why}" if who else why
    ago = f"{age(age_s):>6} ago"
    for n, piece in enumerate(wrap(text, width - END_CELLS - 2)):
        yield line(Span(f"{'' if n else ago:<{END_CELLS}}  ", "dim"), piece)
