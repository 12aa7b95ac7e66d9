"""A short trial of the depth network's runtimes on this machine: pace, and loss of accuracy.

Run as ``python -m farm.training.trial PARENT_PID LIMIT_S FOLDER RUNTIME…`` by
`farm.models.machine`, in a process of its own, so that the memory of PyTorch ends with it; its last
line of output is JSON. The rounds alternate between the runtimes, so that a busy moment hits all
alike.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from farm.errors import FarmError
from farm.models.answer import EXISTS, QUALITY, TIP, TORQUE
from farm.models.calibration import REFERENCE, Trial
from farm.models.grid import Grids, resample
from farm.models.package import Package, open_package
from farm.models.runtime import Runtime, load_runtime, threads
from farm.supervisor.parent import die_with_parent
from farm.training.programs import PROGRAMS
from farm.training.simulator import simulate_batch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

SEED: Final = 20_261_126
HOLES: Final = 48
"""Compared by their answers: several of every known program, none with anything wrong, since of
those a keypoint may be there or not by the last digit."""

BATCHES: Final = (1, 8)
"""A hole that comes alone, and what a busy worker is sent."""

_ROUNDS: Final = 9
_BUDGET_S: Final = 1.0  # for all rounds: a slow machine measures fewer
_MIN_ROUNDS: Final = 3
_WARM_CALLS: Final = 3  # TorchScript watches its first runs and compiles after them


def measure(package: Package, names: Sequence[str]) -> list[Trial]:
    """Try runtimes; the reference first, whatever its place.

    Raises:
        ModelError: the reference can't be had.
    """
    runtimes = {REFERENCE: load_runtime(package, REFERENCE, "cpu")}
    refused: dict[str, str] = {}
    for name in names:
        try:
            runtimes.setdefault(name, load_runtime(package, name, "cpu"))
        except FarmError as error:
            refused[name] = str(error)
    _limit_torch()
    grids = _grids()
    expected = runtimes[REFERENCE](grids)
    answers = {name: run(grids) for name, run in runtimes.items()}
    paces = _paces(runtimes, grids)
    return [
        Trial(name, refused[name])
        if name in refused
        else compare(name, answers[name], expected, hole_ms=paces[name])
        for name in dict.fromkeys(names)
    ]


def compare(
    name: str, found: NDArray[np.float32], expected: NDArray[np.float32], *,
    hole_ms: dict[int, float],
) -> Trial:  # fmt: skip
    """A runtime's answers beside the reference's, (b, COLUMNS) each."""
    there = expected[:, EXISTS] > 0.5
    off = np.concatenate([np.abs(found - expected)[:, part][there] for part in (TORQUE, TIP)])
    off = off if len(off) else np.zeros(1)
    return Trial(
        name=name,
        hole_ms=hole_ms,
        off_mm=float(off.max()),
        mean_off_mm=float(off.mean()),
        quality_off=float(np.abs(found - expected)[:, QUALITY].max()),
        flips=int(((found[:, EXISTS] > 0.5) != there).sum()),
        is_finite=bool(np.isfinite(found).all()),
    )


def _limit_torch() -> None:
    """As many threads as workers have. Torch is there: the reference needs it."""
    import torch  # noqa: PLC0415 - seconds

    torch.set_num_threads(threads())


def _grids() -> Grids:
    family = np.arange(HOLES) % len(PROGRAMS)
    return resample(simulate_batch(family, np.random.default_rng(SEED), faults=0).traces)


def _paces(runtimes: Mapping[str, Runtime], grids: Grids) -> dict[str, dict[int, float]]:
    """Median ms a hole of each, by batch size."""
    batches = {b: _first(grids, b) for b in BATCHES}
    took: dict[tuple[str, int], list[float]] = {}
    for name, run in runtimes.items():
        for b, batch in batches.items():
            took[name, b] = []
            for _ in range(_WARM_CALLS):
                run(batch)
    ends_s = time.perf_counter() + _BUDGET_S
    for done in range(_ROUNDS):
        if done >= _MIN_ROUNDS and time.perf_counter() > ends_s:
            break
        for (name, b), times in took.items():
            begin_s = time.perf_counter()
            runtimes[name](batches[b])
            times.append(time.perf_counter() - begin_s)
    return {
        name: {b: round(float(np.median(took[name, b])) * 1e3 / b, 4) for b in BATCHES}
        for name in runtimes
    }


def _first(grids: Grids, b: int) -> Grids:
    return Grids(
        grids.channels[:b], grids.position_mm[:b], grids.used[:b],
        grids.origin_mm[:b], grids.bin_mm[:b],
    )  # fmt: skip


def bind(parent_pid: int, limit_s: int) -> None:
    """Have the kernel end this process with its parent, and after a time in any case."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(limit_s)
    if not die_with_parent(parent_pid):
        sys.exit(1)


def main(folder: str, *names: str) -> list[dict[str, object]]:
    """The trials as plain data."""
    return [asdict(trial) for trial in measure(open_package(Path(folder)), names)]


if __name__ == "__main__":
    bind(int(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps(main(*sys.argv[3:])))  # noqa: T201 - its parent reads it
