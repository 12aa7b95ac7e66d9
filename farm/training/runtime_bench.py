"""What each runtime of a depth network costs, and what it loses: speed, memory, millimetres.

Owns the measuring; `farm models bench` words it. Memory and load time come from a fresh process for
each runtime, speeds from alternating rounds in this one, so that a busy moment hits all alike.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from farm.config import DataIdsConfig, LimitsConfig
from farm.drilling.opcua import RESULT, TRACE, OpcUaReader
from farm.models.answer import TORQUE
from farm.models.grid import Grids, resample
from farm.models.runtime import THREAD_VARIABLES, Runtime, load_runtime
from farm.models.traces import Traces
from farm.simulation.drilled import Recipe, series
from farm.training.programs import FAMILIES
from farm.training.simulator import simulate_batch, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from farm.drilling.hole import Hole
    from farm.models.package import Package

    Array = NDArray[np.float64]

REFERENCE: Final = "eager"
"""The runtime that all are compared with: the network as it was trained."""

SEED: Final = 20_250_701
"""Of the holes: the same ones each time."""

_CHILD: Final = "farm.training.runtime_child"
_CHILD_TIMEOUT_S: Final = 600.0  # compiling may take minutes on a slow machine
_MIN_ROUNDS: Final = 8
_WARM_CALLS: Final = 2
_JSON_SAMPLES: Final = (1050, 8000)  # the median trace, and one of the longest
_JSON_ROUNDS: Final = 60
_SCOUTS: Final = tuple(Recipe(program, "2025-06") for program in ("V8", "AL", "MQL"))


@dataclass(frozen=True, slots=True)
class Loss:
    """How far a runtime's torque keypoints are from the reference runtime's, where holes have some.

    Attributes:
        largest_mm: the largest difference.
        mean_mm: the mean absolute difference.
        error_mm: the median absolute error against the simulated truth.
        error_change_mm: that, minus the reference runtime's.
    """

    largest_mm: float
    mean_mm: float
    error_mm: float
    error_change_mm: float


@dataclass(frozen=True, slots=True)
class RuntimeCost:
    """What was measured of one runtime.

    Attributes:
        name: of the runtime.
        reason: why it is not to be had here; "" where it is.
        load_s: from a process with NumPy to the first answer.
        memory_mb: resident memory added by it, in 10^6 bytes.
        hole_ms: of the network alone, for each hole, by batch size.
        loss: None where it is not to be had.
    """

    name: str
    reason: str = ""
    load_s: float = math.nan
    memory_mb: float = math.nan
    hole_ms: Mapping[int, float] = field(default_factory=dict)
    loss: Loss | None = None


@dataclass(frozen=True, slots=True)
class RuntimeReport:
    """What was measured of all.

    Attributes:
        holes: how many there were.
        prepare_ms: of the resampling that comes before any runtime, for each hole, by batch size.
        from_json_ms: from the raw messages to the grid, one hole at a time, by its samples.
        runtimes: one each.
    """

    holes: int
    prepare_ms: Mapping[int, float]
    from_json_ms: Mapping[int, float]
    runtimes: tuple[RuntimeCost, ...]


def measure(
    package: Package, names: Sequence[str], *, holes: int, batches: Sequence[int],
    device: str = "cpu", progress: Callable[[str], None] = lambda _: None,
) -> RuntimeReport:  # fmt: skip
    """Measure runtimes.

    Args:
        package: the model, a depth network.
        names: of the runtimes.
        holes: how many simulated ones to run; at least one whole batch is taken.
        batches: sizes.
        device: to run on.
        progress: is told what is being done.

    Raises:
        ModelError: the reference runtime can't be loaded.
    """
    costs = {}
    for name in names:
        progress(f"loading {name} in a fresh process")
        costs[name] = _in_fresh_process(package, name, device)
    usable = [name for name in names if not costs[name].reason]
    progress("simulating holes")
    inputs, truth = _simulated(max(holes, *batches))
    runtimes = {
        name: load_runtime(package, name, device) for name in dict.fromkeys((*usable, REFERENCE))
    }
    _limit_torch()
    timed = {name: runtimes[name] for name in usable}
    speeds = {b: _speeds(timed, inputs, b, progress) for b in batches}
    progress("comparing answers")
    losses = _losses(runtimes, inputs, truth)
    found = tuple(
        costs[name] if costs[name].reason else RuntimeCost(
            name, "", costs[name].load_s, costs[name].memory_mb,
            {b: speeds[b][name] for b in batches}, losses[name],
        )
        for name in names
    )  # fmt: skip
    progress("reading raw messages")
    prepare_ms = {b: speeds[b][""] for b in batches}
    return RuntimeReport(len(inputs), prepare_ms, _from_json_ms(), found)


def _in_fresh_process(package: Package, name: str, device: str) -> RuntimeCost:
    """Load time and memory, or why there is no such runtime here."""
    command = [sys.executable, "-m", _CHILD, str(package.folder), name, device]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, "1")
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False,
            timeout=_CHILD_TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return RuntimeCost(name, f"it was not ready within {_CHILD_TIMEOUT_S:g} s")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"]
        return RuntimeCost(name, lines[-1])
    told = json.loads(done.stdout.splitlines()[-1])
    if "reason" in told:
        return RuntimeCost(name, told["reason"])
    return RuntimeCost(name, "", told["load_s"], told["memory_bytes"] / 1e6)


def _limit_torch() -> None:
    """One thread, as workers run. Torch is there: the reference runtime needs it."""
    import torch  # noqa: PLC0415 - seconds

    torch.set_num_threads(1)


def _simulated(count: int) -> tuple[list[Hole], Array]:
    """Holes of all families in turn, and their (count, 3) keypoints in mm; NaN where none."""
    rng = np.random.default_rng(SEED)
    batch = simulate_batch(np.arange(count) % len(FAMILIES), rng)
    return [one.hole for one in unpack(batch, rng)], batch.keypoints_mm


def _speeds(
    runtimes: Mapping[str, Runtime], inputs: Sequence[Hole], b: int, progress: Callable[[str], None]
) -> dict[str, float]:
    """Median ms a hole of each runtime at one batch size, and under "" of the preparation."""
    batches = [inputs[i : i + b] for i in range(0, len(inputs) - b + 1, b)]
    grids = [_prepare(holes) for holes in batches]
    for name, run in runtimes.items():
        progress(f"warming {name} up for batches of {b}")
        for _ in range(_WARM_CALLS):
            run(grids[0])
    took: dict[str, list[float]] = {name: [] for name in ("", *runtimes)}
    rounds = max(_MIN_ROUNDS, len(batches))
    for number in range(rounds):
        progress(f"batches of {b}: round {number + 1} of {rounds}")
        which = number % len(batches)
        took[""].append(_time_s(partial(_prepare, batches[which])))
        for name, run in runtimes.items():
            took[name].append(_time_s(partial(run, grids[which])))
    return {name: float(np.median(times)) * 1e3 / b for name, times in took.items()}


def _from_json_ms() -> dict[int, float]:
    """Median ms from raw messages to the grid, of holes of about the wanted sizes, in turn."""
    reader = OpcUaReader(DataIdsConfig(), LimitsConfig())
    scouts = list(series(_SCOUTS, count=4 * len(_SCOUTS), seed=SEED))

    def nearest(samples: int) -> dict[str, bytes]:
        best = min(scouts, key=lambda hole: abs(len(hole.truth.hole) - samples))
        return {RESULT: best.messages.result, TRACE: best.messages.trace}

    chosen = [nearest(samples) for samples in _JSON_SAMPLES]
    took: list[list[float]] = [[] for _ in chosen]
    for _ in range(_JSON_ROUNDS):
        for times, parts in zip(took, chosen, strict=True):
            times.append(_time_s(partial(_prepare_raw, reader, parts)))
    sizes = [len(reader.read_hole(parts)) for parts in chosen]
    return {n: float(np.median(times)) * 1e3 for n, times in zip(sizes, took, strict=True)}


def _prepare_raw(reader: OpcUaReader, parts: Mapping[str, bytes]) -> Grids:
    return _prepare([reader.read_hole(parts)])


def _prepare(holes: Sequence[Hole]) -> Grids:
    return resample(Traces.of(holes))


def _time_s(call: Callable[[], object]) -> float:
    begin_s = time.perf_counter()
    call()
    return time.perf_counter() - begin_s


def _losses(
    runtimes: Mapping[str, Runtime], inputs: Sequence[Hole], truth: Array
) -> dict[str, Loss]:
    """What each runtime loses against the reference one, over the keypoints that exist."""
    grids = _prepare(inputs)
    there = np.isfinite(truth)
    points = {name: _keypoints(run, grids)[there] for name, run in runtimes.items()}
    errors = {name: float(np.median(np.abs(p - truth[there]))) for name, p in points.items()}
    away = {name: np.abs(p - points[REFERENCE]) for name, p in points.items()}
    return {
        name: Loss(
            largest_mm=float(away[name].max()),
            mean_mm=float(away[name].mean()),
            error_mm=errors[name],
            error_change_mm=errors[name] - errors[REFERENCE],
        )
        for name in runtimes
    }


def _keypoints(run: Runtime, grids: Grids) -> Array:
    """(b, 3) torque keypoints in mm of |position|."""
    return run(grids)[:, TORQUE].astype(np.float64) + grids.origin_mm[:, None]
