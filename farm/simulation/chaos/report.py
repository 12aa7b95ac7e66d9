"""Words for a verdict: a table for people, one object for machines. Prints nothing itself."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from farm.simulation.chaos.check import Flaw
from farm.simulation.summary import latency_words

if TYPE_CHECKING:
    from collections import Counter

    from farm.simulation.chaos.check import Verdict

SHOWN_OF_A_FLAW = 5


def rows(verdict: Verdict) -> list[tuple[str, str]]:
    """The account as names and values."""
    return [
        ("holes", f"{verdict.holes} drilled, {verdict.acknowledged} acknowledged by mosquitto"),
        ("answered", f"{verdict.answered}"),
        ("dead", _counted(verdict.dead)),
        ("rejected", f"{verdict.rejections} messages that belong to no hole"),
        *((flaw.value, f"{verdict.count(flaw)}") for flaw in Flaw),
        ("repeats, same bytes", _repeats(verdict)),
        ("faults", _counted(verdict.faults)),
        ("lives", f"{verdict.lives} of the broker process, {verdict.workers} of workers"),
        ("latency, all", latency_words(verdict.latency)),
        ("latency, quiet", f"{latency_words(verdict.quiet)} ({verdict.quiet.count} holes)"),
        ("longest gap", f"{verdict.longest_gap_s:.1f} s without an answer"),
    ]


def violation_lines(verdict: Verdict) -> list[str]:
    """The first violations of each kind, a sentence each."""
    lines = []
    for flaw in Flaw:
        found = [v.what for v in verdict.violations if v.flaw is flaw]
        lines += [f"{flaw.value}: {what}" for what in found[:SHOWN_OF_A_FLAW]]
        if len(found) > SHOWN_OF_A_FLAW:
            lines.append(f"{flaw.value}: … and {len(found) - SHOWN_OF_A_FLAW} more")
    return lines


def as_json(verdict: Verdict) -> dict[str, Any]:
    """The account for machines."""
    return {
        "good": verdict.is_good,
        "holes": verdict.holes,
        "acknowledged": verdict.acknowledged,
        "answered": verdict.answered,
        "dead": dict(verdict.dead),
        "rejections": verdict.rejections,
        "flaws": {flaw.name.lower(): verdict.count(flaw) for flaw in Flaw},
        "violations": [[v.flaw.name.lower(), v.what] for v in verdict.violations],
        "repeats": {
            "across_lives": verdict.across_lives,
            "across_breaks": verdict.across_breaks,
            "redelivered": verdict.redelivered,
        },
        "faults": dict(verdict.faults),
        "broker_lives": verdict.lives,
        "worker_incarnations": verdict.workers,
        "latency_ms": asdict(verdict.latency),
        "quiet_latency_ms": asdict(verdict.quiet),
        "longest_gap_s": round(verdict.longest_gap_s, 3),
    }


def _repeats(verdict: Verdict) -> str:
    return (
        f"{verdict.across_lives} across lives, {verdict.across_breaks} across connections,"
        f" {verdict.redelivered} by mosquitto to us"
    )


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.most_common()) or "0"
