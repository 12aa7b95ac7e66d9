"""The picture of a snapshot: lines for a width and a height, from what is looked at.

Pure: the same snapshot and `Looking` give the same lines. `whole` is for paper and pipes, `screen`
for a terminal; `render` is the first as a rich renderable.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.text import Text

from farm.printable import printable_data
from farm.telemetry import house, overview, pages, panels
from farm.telemetry.keyboard import Looking, Page
from farm.telemetry.lines import (
    BLANK,
    UNICODE,
    Glyphs,
    Line,
    Span,
    cut,
    fit,
    line,
    text_of,
    width_of,
    wrap,
)
from farm.telemetry.units import duration, many
from farm.telemetry.verdict import STATE_STYLES, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

SHORT_KEYS_CELLS = 36  # of the foot, where keys are told by their letters
MOST_REMARKS_SHARE = 3  # of the height

Shot = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Picture:
    """What is to be seen.

    Attributes:
        lines: exactly as many as the height, none wider than the width.
        scroll: where the body begins, kept within it.
        page_lines: how many of its lines are seen.
    """

    lines: list[Line]
    scroll: int
    page_lines: int


def render(snapshot: Shot, width: int, height: int | None = None) -> Text:
    """A picture for rich: all of it, or what fits into a height."""
    shot = printable_data(snapshot)
    if height is None:
        made = whole(shot, width)
    else:
        head = [*_head(shot, width, UNICODE), *_verdict(shot, width, UNICODE, height // 3), BLANK]
        made = [*head, *overview.overview(shot, width, height - len(head), UNICODE)][:height]
    text = Text(no_wrap=True, end="")
    for each in made:
        for span in each:
            text.append(span.text, style=span.style)
        text.append("\n")
    text.rstrip()
    return text


def whole(shot: Shot, width: int, glyphs: Glyphs = UNICODE) -> list[Line]:
    """All there is to say, for paper and pipes. The snapshot is printable already."""
    made = [*_head(shot, width, glyphs), *_verdict(shot, width, glyphs, None)]
    for block in (
        panels.rates, panels.outcomes, house.house, panels.latencies, overview.several,
        overview.all_workers, overview.worst, overview.loudest, panels.incidents, panels.seen,
    ):  # fmt: skip
        if found := block(shot, width, glyphs):
            is_next = block is house.house  # reads on from the line before
            made += found if is_next else [BLANK, *found]
    return [fit(each, width, glyphs) for each in made]


def screen(
    shot: Shot,
    looking: Looking,
    width: int,
    height: int,
    glyphs: Glyphs = UNICODE,
    *,
    notices: Sequence[Line] = (),
    clock: str = "",
    is_stale: bool = False,
) -> Picture:
    """What a terminal shows. The snapshot is printable already.

    Args:
        shot: of one farm, or of several as one.
        looking: page, sort, filter, scroll.
        width: of the terminal, in cells.
        height: of it, in lines.
        glyphs: what it can show.
        notices: said first, e.g. that the farm does not answer.
        clock: the time of day, for the corner.
        is_stale: the farm does not answer, and this is what it said last.
    """
    if is_stale:
        shot = shot | {"state": "NO_ANSWER"}
    top = [*_head(shot, width, glyphs, clock), *notices]
    if looking.page is not Page.HELP and not is_stale:
        top += _verdict(shot, width, glyphs, max(1, height // MOST_REMARKS_SHARE))
    top = [*top[: max(height - 2, 1)], BLANK]
    room = max(height - len(top) - 1, 0)
    body = _body(shot, looking, width, room, glyphs)
    if is_stale:
        body = [line(Span(text_of(each), "dim")) for each in body]
    scroll = max(0, min(looking.scroll, len(body) - room))
    shown = body[scroll : scroll + room]
    shown += [BLANK] * (room - len(shown))
    below = max(len(body) - scroll - room, 0)
    foot = _foot(looking, width, glyphs, above=scroll, below=below)
    lines = [fit(each, width, glyphs) for each in (*top, *shown, foot)]
    return Picture(lines[-height:] if len(lines) > height else lines, scroll, room)


# ---- head and foot -----------------------------------------------------------------------------


def _head(shot: Shot, width: int, glyphs: Glyphs, clock: str = "") -> list[Line]:
    state = Span(shot["state"].replace("_", " "), STATE_STYLES.get(shot["state"], "bold red"))
    if "farms" in shot:
        made = line(Span(f"{many(len(shot['farms']), 'farm')}  ", "bold"), state)
    else:
        mqtt = shot["mqtt"]
        is_up = mqtt["state"] == "connected"
        made = line(
            Span(f"farm {shot['instance']}  ", "bold"),
            state,
            f"  up {duration(shot['up_s'])}  MQTT ",
            Span(mqtt["state"], "green" if is_up else "bold red"),
            f" {mqtt['address']}",
            Span(f" ({many(mqtt['reconnects'], 'reconnect')})" if mqtt["reconnects"] else "",
                 "yellow"),
        )  # fmt: skip
    room = width - len(clock) - 2
    if not clock or room < 20:
        return [fit(made, width, glyphs)]
    made = fit(made, room, glyphs)
    return [(*made, Span(" " * (width - width_of(made) - len(clock))), Span(clock, "dim"))]


def _verdict(shot: Shot, width: int, glyphs: Glyphs, most: int | None) -> list[Line]:
    told = verdict(shot)
    made = [line(Span(piece, told.style)) for piece in wrap(told.sentence, width)]
    for place, remark in enumerate(told.remarks):
        lines = _remark(remark.problem, remark.cure, width)
        if most is not None and len(made) + len(lines) > most and place:
            left = len(told.remarks) - place
            made.append(line(Span(f"  ! and {many(left, 'more problem')}", "red")))
            break
        made += lines
    return [fit(each, width, glyphs) for each in made]


def _remark(problem: str, cure: str, width: int) -> list[Line]:
    """What is wrong in red, what to do after it, wrapped as one text."""
    text = f"{problem}: {cure}" if problem and cure else problem or cure
    pieces = wrap(text, width - 4)
    made: list[Line] = []
    red = len(problem) if problem else 0
    for n, piece in enumerate(pieces):
        prefix = Span("  ! " if not n else "    ", "red")
        made.append(line(prefix, Span(piece[:red], "red"), piece[red:]))
        red = max(0, red - len(piece) - 1)
    return made


_KEYS = (
    (Page.OVERVIEW, "o overview"), (Page.WORKERS, "w workers"), (Page.TOOLS, "t tools"),
    (Page.LATENCY, "l latency"), (Page.DEAD, "d dead"), (Page.HELP, "? help"),
)  # fmt: skip


def _foot(looking: Looking, width: int, glyphs: Glyphs, *, above: int, below: int) -> Line:
    if looking.is_typing:
        return line(Span("filter: ", "bold"), looking.filter, Span(" ", "reverse"),
                    Span("  Enter keeps it, Esc clears it", "dim"))  # fmt: skip
    right = []
    if looking.is_paused:
        right.append(Span(" PAUSED ", "reverse"))
    if above or below:
        hints = [f"{below} below"] if below else []
        hints += [f"{above} above"] if above else []
        right.append(Span(f" {', '.join(hints)} ", "bold"))
    if looking.filter:
        room = width - SHORT_KEYS_CELLS - width_of(line(*right)) - len(" filter:  ")
        right.insert(0, Span(f" filter: {cut(looking.filter, max(room, 4), glyphs)} ", "reverse"))
    tail = line(*right)
    left: list[Span] = []
    room = width - width_of(tail) - 1
    for page, label in _labels(looking.page, room):
        if sum(len(span.text) for span in left) + len(label) + 2 > room:
            break
        left += [Span(label, "reverse" if page is looking.page else "dim"), Span("  ")]
    used = sum(len(span.text) for span in left)
    return fit((*left, Span(" " * max(0, width - used - width_of(tail))), *tail), width, glyphs)


def _labels(shown: Page, room: int) -> list[tuple[Page | None, str]]:
    """The keys: in words where there is room, else by their letters, the way out last of all."""
    keys = (*_KEYS, (None, "q quit"))
    made = []
    for in_words in ((*Page, None), (shown, None), (shown,)):
        made = [(page, text if page in in_words else text[:1]) for page, text in keys]
        if sum(len(label) + 2 for _, label in made) <= room:
            break
    return made


# ---- bodies ------------------------------------------------------------------------------------


def _body(shot: Shot, looking: Looking, width: int, room: int, glyphs: Glyphs) -> list[Line]:
    match looking.page:
        case Page.OVERVIEW:
            return overview.overview(shot, width, room, glyphs, looking.filter)
        case Page.WORKERS:
            return pages.worker_page(shot, looking, width, glyphs)
        case Page.TOOLS:
            return pages.tool_page(shot, looking, width, glyphs)
        case Page.LATENCY:
            blocks = [block(shot, width, glyphs) for block in (
                panels.latencies, house.house, panels.seen)]  # fmt: skip
            return overview.stacked(blocks)
        case Page.DEAD:
            return pages.dead_page(shot, looking, width, glyphs)
        case Page.HELP:
            return pages.help_page(width)


def time_of_day(utc_s: float) -> str:
    """For the corner, in this machine's zone."""
    return time.strftime("%H:%M:%S", time.localtime(utc_s))
