"""How the house is doing, a line for each of its parts: jobs, nursery, journal and so on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm.telemetry.panels import labelled
from farm.telemetry.units import duration, many, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farm.telemetry.lines import Glyphs, Line

Shot = dict[str, Any]


def house(shot: Shot, width: int, _glyphs: Glyphs) -> list[Line]:
    """The lines; none of several farms."""
    made: list[Line] = []
    for label, text, style in _told(shot):
        made += labelled(label, text, width, style)
    return made


def _told(shot: Shot) -> Iterator[tuple[str, str, str]]:
    """Label, text and style."""
    if "journal" not in shot:
        return
    yield "jobs", *_jobs(shot["jobs"])
    for label, (text, style) in (
        ("workers", _scaling(shot)),
        ("nursery", _nursery(shot)),
        ("partition", _partition(shot)),
        ("on Ray", _fleet(shot)),
    ):
        if text:
            yield label, text, style
    yield "journal", *_journal(shot["journal"])
    yield "buffers", *_buffers(shot)


def _jobs(jobs: Shot) -> tuple[str, str]:
    late = f", {jobs['late']} late" if jobs["late"] else ""
    text = (
        f"{jobs['active']} active, {jobs['pending']} pending, {jobs['completed']} completed, "
        f"{many(jobs['unconfirmed_publications'], 'answer')} unconfirmed{late}"
    )
    return text, "yellow" if late else ""


def _scaling(shot: Shot) -> tuple[str, str]:
    """How many workers are wanted and why; "" where their number is fixed."""
    scaling = shot.get("scaling") or {}
    if not scaling or not (scaling["is_on"] or scaling["pinned"]):
        return "", ""
    bounds = f" of {scaling['min']} to {scaling['max']}" if scaling["is_on"] else ""
    return f"{scaling['wanted']} wanted{bounds}: {scaling['reason']}", ""


def _nursery(shot: Shot) -> tuple[str, str]:
    """How local workers are launched; "" where there are none."""
    told = shot.get("nursery") or {}
    if not told:
        return "", ""
    state, cause = told["state"], told["cause"]
    lasts = "" if told["for_s"] is None else f" for {duration(told['for_s'])}"
    by_exec = "workers are launched by exec"
    ended = f" ({cause})" if cause else ""
    meanwhile = "workers wait for the next one" if told["way"] == "wait" else by_exec
    text, style = {
        "off": (f"off: {by_exec}", ""),
        "ready": (f"ready{lasts}: workers are forked", ""),
        "loading": (f"loads{lasts}: workers wait for it", "yellow"),
        "absent": (f"none now{ended}; {meanwhile}", "yellow"),
        "unfit": (f"of no use, {cause}: {by_exec}", "yellow"),
        "spoilt": ("can't load the model: no worker is launched until it can", "red"),
        "failed": (f"given up{ended}; {by_exec}", "red"),
    }.get(state, (state, ""))
    made_anew = told["made"] - 1
    if state == "off" or made_anew < 1:
        return text, style
    return f"{text}; made anew " + ("once" if made_anew == 1 else f"{made_anew} times"), style


def _partition(shot: Shot) -> tuple[str, str]:
    """This farm's share of the tools; "" where it has them all."""
    told = shot.get("partition") or {}
    if not told:
        return "", ""
    others = f" (the configuration says {told['configured']})"
    kept = told["kept_here"]
    text = (
        f"{told['index']} of {told['count']} in {told['group']}, {told['phase']}"
        + (others if told["configured"] != told["count"] else "")
        + (f", keeps {kept} holes of tools that went to others" if kept else "")
    )
    return text, ""


def _fleet(shot: Shot) -> tuple[str, str]:
    """How it is with the workers on Ray; "" where there are none."""
    told = shot.get("fleet") or {}
    if not told:
        return "", ""
    names = ("pending", "restarting", "leaving")
    states = ", ".join(f"{told[name]} {name}" for name in names if told[name])
    text = f"{told['wanted']} wanted, {told['alive']} alive"
    return (f"{text}, {states}", "yellow") if states else (text, "")


def _journal(journal: Shot) -> tuple[str, str]:
    if journal["failure"]:
        return f"can't be written: {journal['failure']}", "red"
    if journal["durability"] == "off":
        return "off: what is open is lost with the broker process", "yellow"
    return f"{journal['durability']}, {journal['queued']} records to be written", ""


def _buffers(shot: Shot) -> tuple[str, str]:
    buffers, intake = shot["buffers"], shot["intake"]
    parts = ", ".join(f"{n} {kind}" for kind, n in sorted(buffers["parts_by_kind"].items()))
    bad = (
        (", intake braked" if intake["braked"] else "")
        + (", intake paused" if intake["paused"] else "")
        + (f", {intake['lost_qos0']} lost at QoS 0" if intake["lost_qos0"] else "")
    )
    text = (
        f"{parts or 'no parts wait'} ({size(buffers['payload_bytes'])}), "
        f"{many(intake['queued'], 'message')} queued{bad}"
        + (f", {intake['oversize']} too large" if intake.get("oversize") else "")
    )
    return text, "yellow" if bad else ""
