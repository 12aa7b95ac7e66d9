"""The life of one hole as text, for `farm why` and `farm dead show`."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from farm.journal.ids import told
from farm.journal.records import HoleState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from farm.journal.reader import KeptHole, KeptMessage

_MAX_VALUE_CHARS = 200


def moment(utc_s: float) -> str:
    """A time of day in this machine's zone, with milliseconds."""
    return time.strftime("%H:%M:%S", time.localtime(utc_s)) + f".{int(utc_s % 1 * 1000):03d}"


def day_and_time(utc_s: float) -> str:
    """Date and time in this machine's zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(utc_s))


def lines_of_hole(
    hole: KeptHole, messages: Sequence[KeptMessage], story: list[Any], *, present: str
) -> Iterator[str]:
    """What happened to a hole, line by line.

    Args:
        hole: as the journal has it.
        messages: of it, those that are still kept.
        story: newer than the hole's own where the farm still works on it.
        present: what is to be said of a hole that is open.
    """
    yield f"{told(hole.hole_id)}  {hole.source}  {hole.part_id}  {day_and_time(hole.opened_s)}"
    yield f"  {_end(hole, present)}"
    if hole.reason:
        yield f"  {hole.reason}"
    if hole.refusals:
        yield f"  MQTT refused: {hole.refusals}"
    if hole.retry_of is not None:
        yield f"  a retry of {told(hole.retry_of)}"
    if hole.resolved:
        yield f"  {hole.resolved} by an operator"
    yield "  messages"
    for message in messages:
        yield (
            f"    {moment(message.at_s)}  {message.kind:<8}{message.place.length:>9} bytes"
            f"  {message.topic}"
        )
    if gone := len(hole.messages) - len(messages):
        yield f"    {gone} no longer kept (journal.keep_s, journal.keep_bytes)"
    yield from _story(story)
    if hole.value is not None:
        yield f"  value     {json.dumps(hole.value, default=repr)[:_MAX_VALUE_CHARS]}"
    for publication in hole.publications:
        yield f"  published {publication.topic}  {len(publication.payload)} bytes"


def line_of_other(message: KeptMessage) -> str:
    """A message that is in no hole."""
    note = message.note or "waits for the others of its hole"
    return f"    {moment(message.at_s)}  {message.kind:<8}{message.place.length:>9} bytes  {note}"


def as_data(hole: KeptHole, messages: Sequence[KeptMessage], story: list[Any]) -> dict[str, Any]:
    """The same, for machines."""
    return {
        "hole": told(hole.hole_id),
        "source": hole.source,
        "id": hole.part_id,
        "state": hole.state.name.lower(),
        "terminal": hole.terminal,
        "status": hole.status,
        "reason": hole.reason,
        "refusals": hole.refusals,
        "value": hole.value,
        "model_version": hole.model_version,
        "model_hash": hole.model_hash,
        "deaths": hole.deaths,
        "opened_s": hole.opened_s,
        "first_part_s": hole.first_s,
        "last_part_s": hole.last_s,
        "answered_s": hole.answered_s,
        "ended_s": hole.ended_s,
        "retry_of": None if hole.retry_of is None else told(hole.retry_of),
        "resolved": hole.resolved,
        "messages": [data_of_message(message) for message in messages],
        "lives": [
            {
                "began_s": began_s,
                "left_out": left_out,
                "events": [
                    {"after_s": round(t, 6), "what": what, "detail": d} for t, what, d in events
                ],
            }
            for began_s, left_out, events in story
        ],
        "publications": [
            {"topic": p.topic, "payload": p.payload.decode("utf-8", "backslashreplace")}
            for p in hole.publications
        ],
    }


def data_of_message(message: KeptMessage) -> dict[str, Any]:
    """A message, for machines; `note` says why no hole needs it."""
    return {
        "kind": message.kind,
        "at_s": message.at_s,
        "topic": message.topic,
        "bytes": message.place.length,
        "note": message.note,
    }


def _end(hole: KeptHole, present: str) -> str:
    if hole.state is HoleState.OPEN:
        deaths = f", {hole.deaths} workers lost on it" if hole.deaths else ""
        return f"open{deaths}: {present}"
    words = [hole.terminal]
    if hole.answered_s is not None:
        words.append(
            f"answered {1000 * (hole.answered_s - hole.last_s):.1f} ms after its last part"
        )
    if hole.state is HoleState.ANSWERED:
        words.append("not yet confirmed by MQTT")
    elif hole.ended_s is not None and hole.answered_s is not None:
        words.append(f"confirmed {1000 * (hole.ended_s - hole.answered_s):.1f} ms later")
    if hole.model_version:
        words.append(f"model {hole.model_version} ({hole.model_hash})")
    if hole.deaths:
        words.append(f"{hole.deaths} workers lost on it")
    return ", ".join(words)


def _story(story: list[Any]) -> Iterator[str]:
    for number, (began_s, left_out, events) in enumerate(story, start=1):
        life = f", life {number} of {len(story)} of the broker process" if len(story) > 1 else ""
        yield f"  events{life}"
        before_s = 0.0
        for after_s, what, detail in events:
            wait = f"+{1000 * (after_s - before_s):.2f} ms"
            yield f"    {moment(began_s + after_s)}  {wait:>14}  {what:<14}{detail}".rstrip()
            before_s = after_s
        if left_out:
            yield f"    … {left_out} events in the middle were left out"
