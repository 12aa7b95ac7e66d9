"""Holes with known keypoints: a site's own recordings with a labels file, or simulated ones.

A folder of recordings is an archive of message files (`farm.simulation.archive`) with an
`index.csv`: one row a hole, with its keypoints in mm of |position|.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from farm.config import DataIdsConfig, LimitsConfig
from farm.drilling.opcua import RESULT, TRACE, OpcUaReader
from farm.errors import FarmError, ReadError
from farm.simulation.archive import INDEX_FILE, REACH_MM, is_usable, read_hole, truth_of

if TYPE_CHECKING:
    from farm.drilling.hole import Hole
    from farm.training.simulator import SimulatedHole

KEYPOINTS: Final = ("entry", "transition", "exit")
_COLUMNS: Final = (("entry_mm",), ("transition_mm",), ("exit_mm", "exit_tip_mm"))
_FORM: Final = (
    "the columns hole, entry_mm, transition_mm and exit_mm are needed, numbers in mm or empty"
)


@dataclass(frozen=True, slots=True)
class LabelledHole:
    """A hole whose keypoints somebody knows.

    Attributes:
        name: of the hole, for people.
        family: of its drilling program.
        hole: its samples.
        keypoints_mm: entry, transition and exit as torque onsets; NaN where there is none, or where
            nobody knows.
        usable: whether it is a good hole, that has to be answered; else it is a bad one.
    """

    name: str
    family: str
    hole: Hole
    keypoints_mm: tuple[float, float, float]
    usable: bool = True


@dataclass(frozen=True, slots=True)
class Label:
    """A row of an index: what somebody knows of a hole.

    Attributes:
        family: of its drilling program.
        keypoints_mm: as in `LabelledHole`.
        usable: as in `LabelledHole`.
        line: where in the index it stands, from 1.
    """

    family: str
    keypoints_mm: tuple[float, float, float]
    usable: bool
    line: int


def read_labelled(folder: Path, reader: OpcUaReader | None = None) -> tuple[LabelledHole, ...]:
    """The holes that an archive's index names, with the index's keypoints; no other is looked at.

    The index has the columns `hole`, `entry_mm`, `transition_mm` and `exit_mm`, an empty cell where
    there is no such keypoint, and, if wanted, `program` and `usable` (`no` marks a bad hole; where
    nothing is said, a hole with an entry and an exit is good). Where there is no column `exit_mm`,
    `exit_tip_mm` is taken.

    Args:
        folder: the archive.
        reader: of its messages; that of the default configuration if there is none.

    Raises:
        FarmError: there is no index, a column is missing, a number is none or can't be one of its
            hole, a hole can't be read, or nothing is labelled at all.
    """
    index = folder / INDEX_FILE
    labels = read_index(index)
    reader = reader or OpcUaReader(DataIdsConfig(), LimitsConfig())
    if not any(_is_folder(folder, name) for name in labels):
        raise FarmError(
            f"{index} names none of the holes in {folder}: its column `hole` must hold the names "
            "of their folders"
        )
    if all(math.isnan(k) for label in labels.values() for k in label.keypoints_mm):
        raise FarmError(f"{index} has no label: give at least one hole its keypoints in mm")
    return tuple(_labelled(folder, name, label, reader) for name, label in labels.items())


def read_index(path: Path) -> dict[str, Label]:
    """The labels of an index by the names of their holes.

    Raises:
        FarmError: it can't be read, a column is missing, a number is none, or a name comes twice.
    """
    try:
        # With the mark at its beginning that spreadsheets write, or without.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reading = csv.DictReader(file)
            rows = [(reading.line_num, row) for row in reading]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FarmError(
            f"can't read the labels {path} ({error}): write one row a hole, "
            "with the columns hole,entry_mm,transition_mm,exit_mm"
        ) from error
    labels: dict[str, Label] = {}
    for line, row in rows:
        name = row.get("hole")
        if not name:
            raise FarmError(f"{path}:{line}: it names no hole: {_FORM}")
        if name in labels:
            raise FarmError(f"{path}:{line}: {name} has a row already, in line "
                            f"{labels[name].line}: remove one")  # fmt: skip
        try:
            labels[name] = _label(row, line)
        except ValueError as error:
            raise FarmError(f"{path}:{line}: {error}: {_FORM}") from error
    return labels


def read_messages(folder: Path, reader: OpcUaReader) -> Hole:
    """The hole in a folder of messages, as a site's reader sees it.

    Raises:
        FarmError: a message is missing, or can't be read.
    """
    recorded = read_hole(folder)
    parts = {RESULT: recorded.messages.result, TRACE: recorded.messages.trace}
    try:
        return reader.read_hole(parts)
    except ReadError as error:
        raise FarmError(f"{folder}: {error}") from error


def from_simulated(holes: list[SimulatedHole]) -> tuple[LabelledHole, ...]:
    """Simulated holes, under their families' names and a number."""
    return tuple(
        LabelledHole(f"{s.program}-{number}", s.program, s.hole, truth_of(s), usable=is_usable(s))
        for number, s in enumerate(holes)
    )


def _is_folder(folder: Path, name: str) -> bool:
    return Path(name).name == name and (folder / name).is_dir()


def _labelled(folder: Path, name: str, label: Label, reader: OpcUaReader) -> LabelledHole:
    """A hole of the archive under its label."""
    where = f"{folder / INDEX_FILE}:{label.line}"
    if not _is_folder(folder, name):
        raise FarmError(f"{where}: there is no folder {folder / name}: mend or remove the row")
    try:
        hole = read_messages(folder / name, reader)
    except FarmError as error:
        raise FarmError(
            f"{where}: {error}: mend the hole, or take its row out of {INDEX_FILE}"
        ) from error
    if problem := _contradiction(label.keypoints_mm, hole):
        raise FarmError(
            f"{where}: hole {name}: {problem}: mend the row; labels are mm of |position|, positive,"
            " entry before transition before exit"
        )
    return LabelledHole(name, label.family, hole, label.keypoints_mm, usable=label.usable)


def _contradiction(keypoints_mm: tuple[float, float, float], hole: Hole) -> str:
    """Why keypoints can't be those of a hole; "" if they can."""
    known = [(n, k) for n, k in zip(KEYPOINTS, keypoints_mm, strict=True) if not math.isnan(k)]
    low, high = float(hole.position_mm.min()), float(hole.position_mm.max())
    for name, value in known:
        if not low - REACH_MM <= value <= high + REACH_MM:
            return f"its {name} at {value:g} mm is not within its {low:.2f} to {high:.2f} mm"
    for (first, before), (second, after) in pairwise(known):
        if before >= after:
            return f"its {first} at {before:g} mm is not before its {second} at {after:g} mm"
    return ""


def _label(row: dict[str, str], line: int) -> Label:
    """A row's label.

    Raises:
        ValueError: a column is missing, or a number is none.
    """
    cells = [next((row[c] for c in names if c in row), None) for names in _COLUMNS]
    if None in cells:
        missing = [names[0] for names, c in zip(_COLUMNS, cells, strict=True) if c is None]
        raise ValueError(f"{missing[0]} is missing")
    entry, transition, exit_ = (float(c) if c and c.strip() else math.nan for c in cells)
    # By its first word: "no (edge case)" is no, "partial, deep end missing" is yes.
    judged = (row.get("usable") or "").lower().split()[:1]
    usable = judged != ["no"] if judged else not (math.isnan(entry) or math.isnan(exit_))
    return Label(row.get("program") or "recorded", (entry, transition, exit_), usable, line)
