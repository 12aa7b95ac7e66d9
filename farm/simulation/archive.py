"""Holes as folders of message files: written by `farm simulate`, read by `farm replay`.

A hole is a folder with ResultManagement.json, Trace.json and perhaps Heads.json, each a message
exactly as published; an archive is a folder of such folders.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from farm.errors import FarmError, ReadError
from farm.simulation.gateway import HoleMessages
from farm.simulation.restamp import HoleTemplate

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from farm.simulation.drilled import DrilledHole
    from farm.training.simulator import SimulatedHole

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
    "usable",
)

REACH_MM: Final = 0.5
"""How far beyond the positions of a recording a keypoint of it may lie: noise, and the last step
before the first sample."""


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
    holes = [read_hole(found) for found in folders if found.is_dir() and _looks_like_hole(found)]
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


def truth_of(simulated: SimulatedHole) -> tuple[float, float, float]:
    """Entry, transition and exit in mm; NaN where there is none, or none that was recorded."""
    position_mm = simulated.hole.position_mm
    low, high = float(np.min(position_mm)) - REACH_MM, float(np.max(position_mm)) + REACH_MM
    entry, transition, exit_ = (
        math.nan if k is None or not low <= k <= high else k for k in simulated.keypoints_mm
    )
    return entry, transition, exit_


def is_usable(simulated: SimulatedHole) -> bool:
    """Whether a hole is a good one, with an entry and an exit and more than a single step."""
    entry, _, exit_ = truth_of(simulated)
    return math.isfinite(entry) and math.isfinite(exit_) and len(simulated.hole.steps) > 1


def _looks_like_hole(folder: Path) -> bool:
    return (folder / RESULT_FILE).is_file() or (folder / TRACE_FILE).is_file()


def read_hole(folder: Path) -> RecordedHole:
    """The hole in a folder.

    Raises:
        FarmError: a file is missing or no message of a gateway.
    """
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
    keypoints = ["" if math.isnan(k) else f"{k:.4f}" for k in truth_of(hole.truth)]
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
        "yes" if is_usable(hole.truth) else "no",
    ]
