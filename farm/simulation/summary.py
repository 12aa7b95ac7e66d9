"""Words for the outcome of a run, the same in the demo and the bench. Prints nothing itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from farm.simulation.listener import Heard
    from farm.simulation.report import Latency, Outcome

KEYS_SHOWN = 5
REASONS_SHOWN = 3


def milliseconds(value_ms: float | None) -> str:
    """A duration for people: one decimal below 100 ms, none above."""
    if value_ms is None:
        return "-"
    return f"{value_ms:.1f} ms" if value_ms < 100 else f"{value_ms:,.0f} ms"


def latency_words(found: Latency) -> str:
    """The percentiles in one line."""
    values = (found.p50_ms, found.p90_ms, found.p99_ms, found.max_ms)
    names = ("p50", "p90", "p99", "max")
    told = [f"{n} {milliseconds(v)}" for n, v in zip(names, values, strict=True)]
    return ", ".join(told) if found.count else "-"


def outcome_rows(found: Outcome) -> list[tuple[str, str]]:
    """The account of a run as names and values."""
    rows = [
        ("holes in", f"{found.holes}"),
        ("answered", f"{found.answered}"),
        ("unanswered", _count_of(found.unanswered)),
        ("answered twice", _count_of(found.repeated)),
        ("errors", _errors(found)),
        ("latency", latency_words(found.latency)),
        ("throughput", f"{found.rate_hz:.1f} holes/s answered"),
    ]
    if found.strangers:
        rows.append(("strangers", f"{found.strangers} answers to holes that nobody published"))
    return rows


def example_lines(heard: Sequence[Heard]) -> list[str]:
    """Answers as they came over MQTT: the topic, then the payload."""
    lines = []
    for message in heard:
        lines += [message.topic, f"  {_compact(message.payload)}"]
    return lines


def _count_of(keys: Sequence[tuple[str, str]]) -> str:
    if not keys:
        return "0"
    more = ", …" if len(keys) > KEYS_SHOWN else ""
    return f"{len(keys)}: {', '.join('/'.join(key) for key in keys[:KEYS_SHOWN])}{more}"


def _errors(found: Outcome) -> str:
    if not found.errors:
        return "0"
    common = sorted(found.error_reasons.items(), key=lambda item: -item[1])[:REASONS_SHOWN]
    return f"{found.errors}: " + "; ".join(f"{count} x {reason}" for reason, count in common)


def _compact(payload: bytes) -> str:
    try:
        return json.dumps(json.loads(payload), ensure_ascii=False)
    except ValueError:
        return payload.decode(errors="replace")
