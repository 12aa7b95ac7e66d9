"""Draws a snapshot for people: `render` gives a rich renderable for any width from 60 columns."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from farm.printable import printable_data

WIDE_COLUMNS = 160  # latency (59) and workers with host and pid (97) side by side
HOST_COLUMNS = 110  # from here on the worker table has room for host and pid
MODEL_COLUMNS = 80  # … and from here on for the model and the time
NAME_CHARS, MODEL_CHARS, HOST_CHARS, DEVICE_CHARS = (
    12,
    14,
    12,
    8,
)  # what is longer is cut in the table
STATE_STYLES = {
    "HEALTHY": "bold green",
    "STARTING": "bold cyan",
    "DRAINING": "bold cyan",
    "FALLING_BEHIND": "bold yellow",
    "UNHEALTHY": "bold red",
}
WORKER_STYLES = {"idle": "green", "busy": "cyan", "loading": "yellow", "draining": "yellow"}
STAGE_WORDS = {
    "pairing": "first part to complete",
    "queue": "waiting for a worker",
    "transport": "broker to worker",
    "reading": "JSON to arrays",
    "inference": "the model",
    "publishing": "answer to PUBACK",
    "total": "last part to PUBACK",
}
COUNT_WORDS = {
    "recovered": "taken up from the life before",
    "duplicates": "duplicate parts",
    "redelivered": "parts that MQTT delivered again",
    "replaced": "parts replaced",
    "late": "parts too late for their hole",
    "superseded": "superseded joins",
    "flushed": "unpaired at the stop",
    "optional_unused": "optional parts without a join",
    "expired": "unpaired, expired",
    "evicted": "evicted, buffer full",
    "rejected": "unreadable messages",
    "refused_publications": "answers refused by MQTT",
    "negative_depths": "negative depths",
    "negative_runs": "runs of negative depths",
    "invalid_confidence": "malformed confidences left out",
    "alerts": "alerts",
    "bounces": "bounces",
    "reclaimed": "sent again unclaimed",
    "spilled": "holes that waited on disk",
    "late_claims": "late claims",
    "late_results": "late results suppressed",
    "workers_fenced": "workers fenced",
    "bad_frames": "bad frames",
    "admitted": "connections let in by key",
    "turned_away": "strangers turned away",
    "forged": "messages without a right to them",
    "adapter_failures": "failures of the adapter",
    "answerer_failures": "failures of the answerer",
    "foreign_topics": "foreign topics",
    "loops": "answers on topics that are taken in",
    "rate_limited": "messages beyond the rate of a key",
    "kept_out": "keys kept out for a while",
    "workers_refused": "workers refused, too many",
    "of_another_partition": "messages of another partition",
}


def render(snapshot: dict[str, Any], width: int) -> RenderableType:
    """The whole picture of one snapshot. No text in it is obeyed by a terminal."""
    snapshot = printable_data(snapshot)
    rows: list[RenderableType] = [_head(snapshot), _flow(snapshot)]
    latency, workers = _latency(snapshot), _workers(snapshot, width)
    if width >= WIDE_COLUMNS:
        side = Table.grid(padding=(0, 4))
        side.add_row(latency, workers)
        rows += [Text(), side]
    else:
        rows += [Text(), latency, Text(), workers]
    if counts := _counts(snapshot):
        rows += [Text(), counts]
    return Group(*rows)


def _head(shot: dict[str, Any]) -> Text:
    mqtt = shot["mqtt"]
    connected = mqtt["state"] == "connected"
    line = Text()
    line.append(f"farm {shot['instance']}  ", style="bold")
    line.append(shot["state"].replace("_", " "), style=STATE_STYLES.get(shot["state"], "bold"))
    line.append(f"  up {duration(shot['up_s'])}  MQTT {mqtt['address']} ")
    line.append(mqtt["state"], style="green" if connected else "bold red")
    if mqtt["reconnects"]:
        line.append(f" ({mqtt['reconnects']} reconnects)", style="yellow")
    for problem in shot["problems"]:
        line.append(f"\n  ! {problem}", style="red")
    return line


def _flow(shot: dict[str, Any]) -> Table:
    pace, jobs, holes, buffers = (shot[k] for k in ("throughput", "jobs", "holes", "buffers"))
    drain = pace["drain_s"]
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column()
    grid.add_row(
        "holes/s",
        f"{pace['arrival_rate']:.1f} arrive, {pace['processing_rate']:.1f} done, "
        f"backlog {pace['backlog']}"
        + (f", drained in {duration(drain)}" if drain else "")
        + (", not shrinking" if drain is None else ""),
    )
    grid.add_row(
        "holes",
        f"{holes['arrived']} arrived: {holes['published']} published, "
        f"{holes['insufficient']} insufficient, {holes['skipped']} skipped, "
        + (_warn(holes["shed"], "shed") + ", " if holes["shed"] else "")
        + _warn(holes["dead"], "dead")
        + f", {jobs['unanswered']} open",
    )
    grid.add_row(
        "jobs",
        f"{jobs['active']} active, {jobs['pending']} pending, {jobs['completed']} completed, "
        f"{jobs['unconfirmed_publications']} answers unconfirmed"
        + (f", [yellow]{jobs['late']} late[/]" if jobs["late"] else ""),
    )
    if scaling := _scaling(shot):
        grid.add_row("workers", scaling)
    if nursery := _nursery(shot):
        grid.add_row("nursery", nursery)
    if partition := shot.get("partition"):
        grid.add_row("partition", _partition(partition))
    if fleet := _fleet(shot):
        grid.add_row("on Ray", fleet)
    grid.add_row("journal", _journal(shot))
    parts = ", ".join(f"{n} {kind}" for kind, n in sorted(buffers["parts_by_kind"].items()))
    intake = shot["intake"]
    grid.add_row(
        "buffers",
        f"{parts or 'no parts wait'} ({size(buffers['payload_bytes'])}), "
        f"{intake['queued']} messages queued"
        + (", [yellow]intake braked[/]" if intake["braked"] else "")
        + (", [yellow]intake paused[/]" if intake["paused"] else "")
        + (f", {intake['oversize']} too large" if intake.get("oversize") else "")
        + (f", [red]{intake['lost_qos0']} lost at QoS 0[/]" if intake["lost_qos0"] else ""),
    )
    return grid


def _partition(told: dict[str, Any]) -> str:
    """This farm's share of the tools."""
    others = f" (the configuration says {told['configured']})"
    kept = told["kept_here"]
    return (
        f"{told['index']} of {told['count']} in {escape(told['group'])}, {told['phase']}"
        + (others if told["configured"] != told["count"] else "")
        + (f", keeps {kept} holes of tools that went to others" if kept else "")
    )


def _scaling(shot: dict[str, Any]) -> str:
    """How many workers are wanted and why; "" where their number is fixed."""
    scaling = shot.get("scaling") or {}
    if not scaling or not (scaling["is_on"] or scaling["pinned"]):
        return ""
    bounds = f" of {scaling['min']} to {scaling['max']}" if scaling["is_on"] else ""
    return f"{scaling['wanted']} wanted{bounds}: {escape(scaling['reason'])}"


def _nursery(shot: dict[str, Any]) -> str:
    """How local workers are launched; "" where there are none."""
    told = shot.get("nursery") or {}
    if not told:
        return ""
    state, cause = told["state"], escape(told["cause"])
    lasts = "" if told["for_s"] is None else f" for {duration(told['for_s'])}"
    by_exec = "workers are launched by exec"
    ended = f" ({cause})" if cause else ""
    meanwhile = "workers wait for the next one" if told["way"] == "wait" else by_exec
    line = {
        "off": f"off: {by_exec}",
        "ready": f"ready{lasts}: workers are forked",
        "loading": f"[yellow]loads{lasts}[/]: workers wait for it",
        "absent": f"[yellow]none now[/]{ended}; {meanwhile}",
        "unfit": f"[yellow]of no use[/], {cause}: {by_exec}",
        "spoilt": "[red]can't load the model[/]: no worker is launched until it can",
        "failed": f"[red]given up[/]{ended}; {by_exec}",
    }.get(state, escape(state))
    made_anew = told["made"] - 1
    if state == "off" or made_anew < 1:
        return line
    return f"{line}; made anew " + ("once" if made_anew == 1 else f"{made_anew} times")


def _fleet(shot: dict[str, Any]) -> str:
    """How it is with the workers on Ray; "" where there are none."""
    told = shot.get("fleet") or {}
    if not told:
        return ""
    states = ", ".join(
        f"[yellow]{told[name]} {name}[/]"
        for name in ("pending", "restarting", "leaving")
        if told[name]
    )
    return f"{told['wanted']} wanted, {told['alive']} alive" + (f", {states}" if states else "")


def _journal(shot: dict[str, Any]) -> str:
    journal, waiting = shot["journal"], shot["dead_letters"]
    if journal["failure"]:
        return f"[red]can't be written: {escape(journal['failure'])}[/]"
    if journal["durability"] == "off":
        return "off: what is open is lost with the broker process"
    letters = (
        f"[red]{waiting} dead letters wait: farm dead list[/]" if waiting else "no dead letters"
    )
    return f"{journal['durability']}, {journal['queued']} records to be written, {letters}"


def _warn(count: int, word: str) -> str:
    return f"[red]{count} {word}[/]" if count else f"0 {word}"


def _latency(shot: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("latency, ms", no_wrap=True)
    for name in ("p50", "p99", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", style="dim", no_wrap=True)
    for stage, summary in shot["latency"].items():
        values = [milliseconds(summary[f"{name}_s"]) for name in ("p50", "p99", "max")]
        table.add_row(stage, *values, STAGE_WORDS.get(stage, ""))
    return table


def _workers(shot: dict[str, Any], width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"worker ({len(shot['workers'])})", no_wrap=True)
    table.add_column("state", no_wrap=True)
    has_device = any(row.get("device") for row in shot["workers"])
    if has_device:
        table.add_column("device", no_wrap=True)
    for name in ("job for", "done", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    if width >= MODEL_COLUMNS:
        table.add_column("up", justify="right", no_wrap=True)
        table.add_column("model", style="dim", no_wrap=True)
    if width >= HOST_COLUMNS:
        table.add_column("host", style="dim", no_wrap=True)
        table.add_column("pid", justify="right", style="dim", no_wrap=True)
    for row in shot["workers"]:
        age = row["job_age_s"]
        cells: list[RenderableType] = [
            cut(row["name"], NAME_CHARS),
            Text(row["state"], style=WORKER_STYLES.get(row["state"], "")),
            *((cut(row.get("device") or "", DEVICE_CHARS),) if has_device else ()),
            "" if age is None else f"{age:.1f} s",
            str(row["jobs_done"]),
            size(row["rss_bytes"]),
        ]
        if width >= MODEL_COLUMNS:
            cells += [duration(row["up_s"]), cut(row["model_version"], MODEL_CHARS)]
        if width >= HOST_COLUMNS:
            cells += [cut(row["host"], HOST_CHARS), Text(str(row["pid"]))]
        table.add_row(*cells)
    return table


def cut(text: str, limit: int) -> Text:
    """A text of at most so many characters; what looks like markup in it is none."""
    return Text(text if len(text) <= limit else f"{text[: limit - 1]}…")


def _counts(shot: dict[str, Any]) -> Text | None:
    found = [
        f"{n} {COUNT_WORDS[key]}" for key, n in shot["counts"].items() if key in COUNT_WORDS and n
    ]
    return Text("seen: " + ", ".join(found), style="dim") if found else None


def duration(seconds: float) -> str:
    """A duration for people: 8 s, 3 min 20 s, 2 h 5 min, 4 d 3 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for small, big, step in (("s", "min", 60), ("min", "h", 3600), ("h", "d", 86_400)):
        if whole < step * (60 if big == "min" else 24) or big == "d":
            rest = whole % step // {"s": 1, "min": 60, "h": 3600}[small]
            return f"{whole // step} {big}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def size(count: float) -> str:
    """Bytes for people, in powers of ten."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def milliseconds(seconds: float | None) -> str:
    """Three significant digits."""
    if seconds is None:
        return "-"
    ms = seconds * 1000
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"
