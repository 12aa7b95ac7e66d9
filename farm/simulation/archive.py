"""Holes as folders of message files: written by `farm simulate`, read by `farm replay`.

A hole is a folder with ResultManagement.json, Trace.json and perhaps Heads.json, each a message
exactly as published; an archive is a folder of such folders.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.errors import FarmError, ReadError
from farm.simulation.gateway import HoleMessages
from farm.simulation.restamp import HoleTemplate

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from farm.simulation.drilled import DrilledHole

RESULT_FILE = "ResultManagement.json"
TRACE_FILE = "Trace.json"
HEADS_FILE = "Heads.json"
INDEX_FILE = "index.csv"
INDEX_COLUMNS = (
    "hole",
    "program",
    "gateway_style",
    "samples",
    "steps",
    "toolbox",
    "tool",
    "result_id",
    "entry_mm",
    "transition_mm",
    "exit_mm",
)


@dataclass(frozen=True, slots=True)
class RecordedHole:
    """A hole found in an archive."""

    name: str
    messages: HoleMessages
    template: HoleTemplate


def read_archive(folder: Path) -> list[RecordedHole]:
    """The holes in a folder, by name; the folder may be itself one hole.

    Raises:
        FarmError: there is none, or a file of one is missing or no message of a gateway.
    """
    folders = [folder] if _looks_like_hole(folder) else sorted(folder.iterdir())
    holes = [_read_hole(found) for found in folders if found.is_dir() and _looks_like_hole(found)]
    if not holes:
        raise FarmError(
            f"{folder}: no hole found: expected {RESULT_FILE} and {TRACE_FILE} in it"
            " or in its subfolders (`farm simulate DIR` writes some)"
        )
    return holes


def write_archive(folder: Path, holes: Iterable[DrilledHole]) -> list[str]:
    """Write each hole into its folder and the truth of all into index.csv.

    Returns:
        The names of the folders, in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, hole in enumerate(holes, start=1):
        name = f"{number:02d}-{hole.recipe.label}"
        _write_hole(folder / name, hole.messages)
        rows.append(_index_row(name, hole))
    with (folder / INDEX_FILE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(INDEX_COLUMNS)
        writer.writerows(rows)
    return [str(row[0]) for row in rows]


def _looks_like_hole(folder: Path) -> bool:
    return (folder / RESULT_FILE).is_file() or (folder / TRACE_FILE).is_file()


def _read_hole(folder: Path) -> RecordedHole:
    heads = folder / HEADS_FILE
    try:
        found = HoleMessages(
            result=(folder / RESULT_FILE).read_bytes(),
            trace=(folder / TRACE_FILE).read_bytes(),
            heads=heads.read_bytes() if heads.is_file() else None,
        )
        return RecordedHole(folder.name, found, HoleTemplate(found))
    except OSError as error:
        raise FarmError(f"{error.filename}: {error.strerror}") from error
    except ReadError as error:
        raise FarmError(f"{folder}: {error}") from error


def _write_hole(folder: Path, messages: HoleMessages) -> None:
    folder.mkdir(exist_ok=True)
    (folder / RESULT_FILE).write_bytes(messages.result)
    (folder / TRACE_FILE).write_bytes(messages.trace)
    if messages.heads is not None:
        (folder / HEADS_FILE).write_bytes(messages.heads)


def _index_row(name: str, hole: DrilledHole) -> list[str | int]:
    samples = hole.truth.hole
    keypoints = ["" if k is None else f"{k:.4f}" for k in hole.truth.keypoints_mm]
    return [
        name,
        hole.recipe.program,
        hole.recipe.style,
        len(samples),
        " ".join(str(step.number) for step in samples.steps),
        hole.toolbox,
        hole.tool,
        hole.result_id,
        *keypoints,
    ]
