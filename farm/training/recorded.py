"""Holes with known keypoints: a site's own recordings with a labels file, or simulated ones.

A folder of recordings is an archive of message files (`farm.simulation.archive`) with an
`index.csv`: one row a hole, with its keypoints in mm of |position|.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from farm.config import DataIdsConfig, LimitsConfig
from farm.drilling.opcua import RESULT, TRACE, OpcUaReader
from farm.errors import FarmError, ReadError
from farm.simulation.archive import INDEX_FILE, read_archive

if TYPE_CHECKING:
    from pathlib import Path

    from farm.drilling.hole import Hole
    from farm.training.simulator import SimulatedHole

KEYPOINTS: Final = ("entry", "transition", "exit")
_COLUMNS: Final = (("entry_mm",), ("transition_mm",), ("exit_mm", "exit_tip_mm"))


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


def read_labelled(folder: Path) -> tuple[LabelledHole, ...]:
    """The holes of an archive that its index names, with the index's keypoints.

    The index has the columns `hole`, `entry_mm`, `transition_mm` and `exit_mm`, an empty cell where
    there is no such keypoint, and, if wanted, `program` and `usable` (`no` marks a bad hole). Where
    there is no column `exit_mm`, `exit_tip_mm` is taken.

    Raises:
        FarmError: there is no index, a column is missing, a number is none, or none of its holes
            is there.
    """
    labels = _read_index(folder / INDEX_FILE)
    reader = OpcUaReader(DataIdsConfig(), LimitsConfig())
    found = []
    for recorded in read_archive(folder):
        row = labels.get(recorded.name)
        if row is None:
            continue
        parts = {RESULT: recorded.messages.result, TRACE: recorded.messages.trace}
        try:
            hole = reader.read_hole(parts)
        except ReadError as error:
            raise FarmError(
                f"{folder / recorded.name}: {error}: mend it, or take its row out of {INDEX_FILE}"
            ) from error
        family, keypoints, usable = row
        found.append(LabelledHole(recorded.name, family, hole, keypoints, usable=usable))
    if not found:
        raise FarmError(
            f"{folder / INDEX_FILE} names none of the holes in {folder}: its column `hole` must "
            "hold the names of their folders"
        )
    return tuple(found)


def from_simulated(holes: list[SimulatedHole]) -> tuple[LabelledHole, ...]:
    """Simulated holes, under their families' names and a number."""
    return tuple(
        LabelledHole(f"{s.program}-{number}", s.program, s.hole, _keypoints(s), usable=_good(s))
        for number, s in enumerate(holes)
    )


def _keypoints(simulated: SimulatedHole) -> tuple[float, float, float]:
    entry, transition, exit_ = (math.nan if k is None else k for k in simulated.keypoints_mm)
    return entry, transition, exit_


def _good(simulated: SimulatedHole) -> bool:
    entry, _, exit_ = simulated.keypoints_mm
    return entry is not None and exit_ is not None and len(simulated.hole.steps) > 1


def _read_index(path: Path) -> dict[str, tuple[str, tuple[float, float, float], bool]]:
    """Family, keypoints and usability of each hole, by its name."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FarmError(
            f"can't read the labels {path} ({error}): write one row a hole, "
            "with the columns hole,entry_mm,transition_mm,exit_mm"
        ) from error
    labels = {}
    for number, row in enumerate(rows, start=2):
        try:
            labels[row["hole"]] = _label(row)
        except (KeyError, ValueError, TypeError) as error:
            raise FarmError(
                f"{path}:{number}: {error}: the columns hole, entry_mm, transition_mm and exit_mm "
                "are needed, numbers in mm or empty"
            ) from error
    return labels


def _label(row: dict[str, str]) -> tuple[str, tuple[float, float, float], bool]:
    cells = [next((row[c] for c in names if c in row), None) for names in _COLUMNS]
    if None in cells:
        raise KeyError("a column is missing")
    entry, transition, exit_ = (float(c) if c and c.strip() else math.nan for c in cells)
    usable = (row.get("usable") or "yes").lower().split()[:1] != ["no"]
    return row.get("program") or "recorded", (entry, transition, exit_), usable
