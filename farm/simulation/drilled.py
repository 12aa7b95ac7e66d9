"""Simulated holes as gateways publish them, each with its exact truth, reproducible from a seed.

Joins the trace simulator with the gateway styles; owns the set of holes in `samples/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from farm.simulation.gateway import STYLES, HoleMessages, messages
from farm.simulation.restamp import HoleTemplate
from farm.training.programs import FAMILIES, PROGRAMS
from farm.training.simulator import SimulatedHole, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Of the simulated gateways' clocks, which are as wrong as real ones.
FIRST_HOLE_AT = datetime(2025, 3, 3, 8, 0, tzinfo=UTC)
HOLES_EVERY = timedelta(minutes=2)
SAMPLES_SEED = 2025
_POOL_DRAWS = 8  # holes drawn of each program to learn how large its traces are


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to drill and how to write it down."""

    program: str
    style: str
    single_step: bool = False
    faults: float = 0.0  # share of bad holes, against that of a bad day

    @property
    def label(self) -> str:
        """Names it, fit for a folder."""
        kind = f"{self.program}-single" if self.single_step else self.program
        return f"{kind}-{self.style}"


@dataclass(frozen=True, slots=True)
class DrilledHole:
    """A simulated hole, its messages and the truth about it."""

    recipe: Recipe
    truth: SimulatedHole
    messages: HoleMessages
    toolbox: str
    tool: str
    result_id: int


# What `samples/` holds: each main program, each gateway style, one hole of a single step, and few
# of the long micropeck traces, so that all stay under 2 MB.
SAMPLE_RECIPES = (
    Recipe("MDB", "2024-12"),
    Recipe("MDB", "2025-03"),
    Recipe("MDB", "2025-06"),
    Recipe("MQL", "2024-12"),
    Recipe("MQL", "2025-06"),
    Recipe("HAM", "2025-03"),
    Recipe("V1-V5", "2025-03"),
    Recipe("V1-V5", "2025-06"),
    Recipe("V6-V7", "2024-12"),
    Recipe("V6-V7", "2025-03"),
    Recipe("V6-V7", "2025-06"),
    Recipe("V8", "2025-06"),
    Recipe("AL", "2025-03"),
    Recipe("V6-V7", "2025-06", single_step=True),
)


def drill(recipe: Recipe, *, seed: int, number: int = 1) -> DrilledHole:
    """Drill one hole; equal arguments give equal bytes.

    Args:
        recipe: the program and the gateway style.
        seed: of the whole series.
        number: of the hole in the series, from 1.

    Raises:
        KeyError: there is no such program or style.
    """
    style = STYLES[recipe.style]
    hole = simulate(
        recipe.program,
        np.random.default_rng([seed, number]),
        single_step=recipe.single_step,
        faults=recipe.faults,
    )
    toolbox, tool = f"SIM-BOX-{recipe.style}", f"SIM-{recipe.program}"
    result_id = 100 + number
    written = messages(
        hole.hole,
        power_w=hole.power_w,
        style=style,
        toolbox=toolbox,
        tool=tool,
        result_id=result_id,
        head_id=f"E0040100{list(FAMILIES).index(recipe.program):08X}",
        machine_id=str(25_000_000 + list(FAMILIES).index(recipe.program)),
        timestamp=FIRST_HOLE_AT + number * HOLES_EVERY,
        recipe_id=list(FAMILIES).index(recipe.program) + 1,
    )
    return DrilledHole(recipe, hole, written, toolbox, tool, result_id)


def series(recipes: Sequence[Recipe], *, count: int, seed: int) -> Iterator[DrilledHole]:
    """So many holes, taking the recipes in turn."""
    for number in range(1, count + 1):
        yield drill(recipes[(number - 1) % len(recipes)], seed=seed, number=number)


def samples() -> Iterator[DrilledHole]:
    """The holes of `samples/`."""
    return series(SAMPLE_RECIPES, count=len(SAMPLE_RECIPES), seed=SAMPLES_SEED)


def mixed_templates(*, seed: int) -> list[list[HoleTemplate]]:
    """Holes of every program, ready to be published many times: one list for each gateway style."""
    recipes = [[Recipe(program, style) for program in PROGRAMS] for style in STYLES]
    return [
        [HoleTemplate(hole.messages) for hole in series(chosen, count=len(chosen), seed=seed)]
        for chosen in recipes
    ]


def sized_holes(trace_kb: float, *, count: int, seed: int) -> list[DrilledHole]:
    """Different holes whose traces are as near to a size as the programs allow.

    All are of the 2025-03 style with three messages each. A trace can't be cut to size without
    losing what it is about, so sizes spread: the nearest of many holes are taken.

    Args:
        trace_kb: wanted size of the Trace message in units of 1000 bytes.
        count: how many.
        seed: of the series.
    """
    recipes = [Recipe(program, "2025-03") for program in PROGRAMS]

    def miss(hole: DrilledHole) -> float:
        return abs(len(hole.messages.trace) - trace_kb * 1000)

    scouts = series(recipes, count=len(recipes) * _POOL_DRAWS, seed=seed)
    best = min(scouts, key=miss).recipe
    pool = sorted(series([best], count=2 * count, seed=seed), key=miss)
    return pool[:count]
