"""The `Results`: the answers to a recording, as a file of JSON lines that people can read and diff.

The first line says what the file is. Each further one is a hole with its answer, or what was
refused. docs/recordings.md shows it.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from farm.errors import RecordingError
from farm.recording.answers import MAX_VALUES, AnswerBook, HoleKey, HoleResult, Refusal
from farm.recording.reader import RecordingReader, is_recording
from farm.recording.record import Message

if TYPE_CHECKING:
    from pathlib import Path

    from farm.recording.traffic import Key, Traffic

FORMAT: Final = "farm-results"
VERSION: Final = 1
MAX_LINE_BYTES: Final = 100_000
MAX_LINES: Final = 10_000_000
_PRIVATE: Final = 0o600


@dataclass(slots=True)
class Results:
    """See the module."""

    holes: dict[HoleKey, HoleResult] = field(default_factory=dict)
    refusals: Counter[Refusal] = field(default_factory=Counter)


def write_results(path: Path, results: Results) -> None:
    """Write them, mode 0600; an older file of results is replaced once the new one is whole.

    Raises:
        RecordingError: the disk is full or fails, or the place can't be written, or another file
            stands there.
    """
    check_place(path)
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                for line in _lines(results):
                    file.write(f"{json.dumps(line)}\n")
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise RecordingError(
            f"the results can't be kept in {path} ({error.strerror}): choose another place"
        ) from error


def check_place(path: Path) -> None:
    """Whether results may be written there: nothing is there, or others, or an empty file.

    Raises:
        RecordingError: another file is there.
    """
    try:
        if not path.exists():
            return
        begin = b""
        if is_file := path.is_file():
            with path.open("rb") as file:
                begin = file.readline(MAX_LINE_BYTES)
    except OSError as error:
        raise RecordingError(
            f"the results can't be kept in {path} ({error.strerror}): choose another place"
        ) from error
    if not is_file or (begin and not _is_begin(begin)):
        raise RecordingError(
            f"{path} is there, and is no file of results: it is left as it is. Choose another name"
        )


def read_results(path: Path, traffic: Traffic) -> Results:
    """Those of a file that `write_results` wrote, or the answers in a recording.

    Raises:
        RecordingError: it is neither, or damaged; with the line.
    """
    if is_recording(path):
        return recorded_results(path, traffic)
    results = Results()
    try:
        with path.open("rb") as file:
            for number in range(1, MAX_LINES + 2):
                line = file.readline(MAX_LINE_BYTES + 1)
                if not line:
                    break
                if number > MAX_LINES or len(line) > MAX_LINE_BYTES:
                    raise RecordingError(f"{path}, line {number}: too long for a file of results")
                _take(results, line, number, str(path))
    except OSError as error:
        raise RecordingError(f"{path} can't be read: {error.strerror}") from error
    return results


def recorded_results(path: Path, traffic: Traffic) -> Results:
    """The answers in a recording that was made with --results.

    Those to holes whose messages came before it was begun are left out: no replay of it is answered
    so.

    Raises:
        RecordingError: it has none, or is damaged.
    """
    book = AnswerBook(traffic)
    known: set[Key] = set()
    answers = 0
    with RecordingReader(path) as reader:
        for record in reader.records():
            if not isinstance(record, Message):
                continue
            if not record.is_answer:
                known.update(_hole_of(record, traffic))
                continue
            answers += 1
            key = traffic.answered(record.topic, record.payload)
            if key is None or key in known:
                book.take(record.topic, record.payload, record.at_ns / 1e9)
    if not answers:
        raise RecordingError(
            f"{path} has no answers in it: record with --results, or make a file of them with "
            "`farm replay FILE --save-results RESULTS`"
        )
    return Results(book.results(), book.refusals)


def _hole_of(message: Message, traffic: Traffic) -> tuple[Key, ...]:
    """The hole that a message is of, if it names one."""
    route = traffic.route(message.topic)
    part_id = route and traffic.part_id(route.kind, message.payload)
    return () if route is None or part_id is None else ((route.source, part_id),)


def _lines(results: Results) -> Any:
    yield {"format": FORMAT, "version": VERSION}
    for key, result in sorted(results.holes.items()):
        line: dict[str, Any] = {"tool": key.source, "id": key.result_id}
        if key.nth > 1:
            line["nth"] = key.nth
        if result.is_error:
            line["error"] = result.reason
        else:
            line["keypoints_mm"] = _plain(result.keypoints_mm)
            line["depths_mm"] = _plain(result.depths_mm)
        line |= {
            name: value
            for name, value in (("model", result.algo_version), ("hash", result.model_hash))
            if value
        }
        yield line
    for refusal, count in sorted(results.refusals.items()):
        yield {
            "tool": refusal.source,
            "kind": refusal.kind,
            "refused": refusal.reason,
            "count": count,
        }


def _plain(values: tuple[float, ...] | None) -> list[float | None] | None:
    return None if values is None else [v if math.isfinite(v) else None for v in values]


def _take(results: Results, line: bytes, number: int, name: str) -> None:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        told = None
    if number == 1:
        _check_begin(told, name)
        return
    if not line.strip():
        return
    try:
        if "refused" in told:
            refusal = Refusal(*(_str(told, each) for each in ("tool", "kind", "refused")))
            results.refusals[refusal] += _int(told, "count")
            return
        nth = _int(told, "nth") if "nth" in told else 1
        key = HoleKey(_str(told, "tool"), _str(told, "id"), nth)
        results.holes[key] = HoleResult(
            _numbers(told.get("keypoints_mm")),
            _numbers(told.get("depths_mm")),
            _str(told, "error") if "error" in told else "",
            *(_str(told, each) if each in told else "" for each in ("model", "hash")),
        )
    except (TypeError, ValueError, AttributeError, OverflowError):
        raise RecordingError(
            f"{name}, line {number}: no hole with its answer stands there: mend the line or remove"
            " it"
        ) from None


def _is_begin(line: bytes) -> bool:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(told, dict) and told.get("format") == FORMAT


def _check_begin(told: Any, name: str) -> None:
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise RecordingError(
            f"{name} is no file of results: `farm replay FILE --save-results {name}` makes one"
        )
    if told.get("version") != VERSION:
        raise RecordingError(f"{name}: results of version {told.get('version')!r} are not known")


def _str(told: dict[str, Any], name: str) -> str:
    if not isinstance(value := told.get(name), str):
        raise TypeError(name)
    return value


def _int(told: dict[str, Any], name: str) -> int:
    if type(value := told.get(name)) is not int or value < 1:
        raise TypeError(name)
    return value


def _numbers(values: Any) -> tuple[float, ...] | None:
    if values is None:
        return None
    if not isinstance(values, list) or len(values) > MAX_VALUES:
        raise TypeError
    for each in values:
        if each is not None and type(each) not in (int, float):
            raise TypeError
    return tuple(math.nan if each is None else float(each) for each in values)
