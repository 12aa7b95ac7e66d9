"""How far models are from the truth on simulated holes, by family of programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from farm.models.model import Insufficient, Model
from farm.training.programs import PROGRAMS
from farm.training.simulator import SimulatedHole, simulate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from farm.drilling.hole import Hole

TEST_SEED = 20_250_601
"""Of the test holes. `farm train` refuses it as a training seed."""

ALL = "all"
KEYPOINTS = ("entry", "transition", "exit")
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Score:
    """Absolute errors of one model on one family.

    Attributes:
        model: its name.
        program: the family, or `ALL`.
        holes: how many were answered.
        median_mm: of entry, transition and exit; NaN where the family has none.
        p95_mm: the 95th percentiles of the same.
    """

    model: str
    program: str
    holes: int
    median_mm: tuple[float, ...]
    p95_mm: tuple[float, ...]


def draw_holes(per_program: int, *, seed: int = TEST_SEED) -> list[SimulatedHole]:
    """The same holes for everybody: `per_program` of each family."""
    rng = np.random.default_rng(seed)
    return [simulate(name, rng) for name in PROGRAMS for _ in range(per_program)]


def errors_mm(model: Model, holes: Sequence[SimulatedHole]) -> NDArray[np.float64]:
    """Answer minus truth (n, 3); NaN where there is no answer or, for a transition, no truth."""
    answers: list[Mapping[str, Sequence[float]] | Insufficient] = []
    for start in range(0, len(holes), _BATCH):
        inputs: list[Hole] = [h.hole for h in holes[start : start + _BATCH]]
        answers.extend(model.infer(inputs))
    found = [[np.nan] * 3 if isinstance(a, Insufficient) else a["keypoints_mm"] for a in answers]
    truth = [[np.nan if k is None else k for k in hole.keypoints_mm] for hole in holes]
    return np.asarray(np.array(found) - np.array(truth), np.float64)


def evaluate(models: Mapping[str, Model], holes: Sequence[SimulatedHole]) -> list[Score]:
    """Scores of each model on each family present, and on all together."""
    programs = np.array([hole.program for hole in holes])
    scores = []
    for name, model in models.items():
        errors = np.abs(errors_mm(model, holes))
        for program in (*dict.fromkeys(programs), ALL):
            chosen = errors if program == ALL else errors[programs == program]
            scores.append(_score(name, program, chosen))
    return sorted(scores, key=lambda score: score.program == ALL)


def _score(model: str, program: str, errors: NDArray[np.float64]) -> Score:
    """The statistics of one family's absolute errors (n, 3)."""
    columns = [column[np.isfinite(column)] for column in errors.T]
    median, p95 = (
        tuple(float(np.percentile(c, percent)) if len(c) else float("nan") for c in columns)
        for percent in (50, 95)
    )
    return Score(model, program, len(columns[0]), median, p95)


def table(scores: Sequence[Score]) -> str:
    """The scores as text: absolute errors in mm, median / 95th percentile."""
    lines = [f"{'program':8} {'model':9} {'holes':>6}" + "".join(f"{k:>15}" for k in KEYPOINTS)]
    for score in scores:
        cells = "".join(
            f"{'-':>15}" if np.isnan(median) else f"{f'{median:.2f} / {p95:.2f}':>15}"
            for median, p95 in zip(score.median_mm, score.p95_mm, strict=True)
        )
        lines.append(f"{score.program:8} {score.model:9} {score.holes:6}{cells}")
    return "\n".join([*lines, "absolute errors in mm: median / 95th percentile"])
