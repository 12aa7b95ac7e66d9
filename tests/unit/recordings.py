"""Recordings for tests: messages as the units send them, and files that hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import messages

from farm.config import Config
from farm.recording.record import Message
from farm.recording.traffic import Traffic
from farm.recording.writer import RecordingWriter
from farm.simulation.gateway import HEADS, RESULT, TRACE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from farm.recording.record import Gap, Note

S = 1_000_000_000
TAILS = {"result": RESULT, "trace": TRACE, "heads": HEADS}
SOURCE = "BOX-1/UNIT-1"


def traffic(**listener: Any) -> Traffic:
    return Traffic(Config.model_validate({"mqtt": {"listener": listener}} if listener else {}))


def part(kind: str, payload: bytes, *, at_s: float = 100.0, source: str = SOURCE) -> Message:
    return Message(round(at_s * S), f"OPCPUBSUB/{source}/{TAILS[kind]}", payload)


def hole(
    result_id: int = 440,
    *,
    at_s: float = 100.0,
    source: str = SOURCE,
    gateway: messages.Gateway = messages.PLAIN,
    **style: Any,
) -> list[Message]:
    """Result, Trace and Heads of a hole, a tenth of a second apart."""
    style.setdefault("tool", source.partition("/")[2])
    fields = {
        "result": messages.result_fields(gateway, result_id=result_id),
        "trace": messages.trace_fields(gateway, result_id=result_id),
        "heads": messages.heads_fields(cycle=result_id),
    }
    return [
        part(kind, messages.envelope(told, **style), at_s=at_s + at / 10, source=source)
        for at, (kind, told) in enumerate(fields.items())
    ]


def answer(path: str, body: bytes, *, at_s: float = 101.0, source: str = SOURCE) -> Message:
    topic = f"OPCPUBSUB/{source}/{path}"
    return Message(round(at_s * S), topic, body, is_answer=True)


def write(path: Path, records: Iterable[Message | Gap | Note], **options: Any) -> None:
    with RecordingWriter(path, now_ns=50 * S, **options) as writer:
        for record in records:
            writer.append(record)
