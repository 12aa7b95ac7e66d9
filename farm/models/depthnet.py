"""The depth network as the `Model` that workers hold: from holes to keypoints, or to a reason.

Owns what the network's numbers mean for a hole: which outcome it is, and when its answer is not to
be trusted. The network is `farm.models.network`, its input `farm.models.grid`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from farm.drilling.hole import Hole, Step
from farm.errors import ModelError
from farm.models.answer import EXISTS, QUALITY, SIGMA, TIP, TORQUE
from farm.models.grid import BIN_MM, resample
from farm.models.machine import runtime_here
from farm.models.model import Insufficient, depth_answer
from farm.models.package import open_package
from farm.models.runtime import AUTO, DEFAULT, check_runtime, file_of, load_runtime
from farm.models.staging import sizes
from farm.models.traces import Traces

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from farm.drilling.hole import FloatArray

BUILT_IN: Final = Path(__file__).with_name("library") / "4"

MIN_SAMPLES: Final = 18
"""The shortest hole that a machine was seen to publish; less is a fragment."""

MAX_SPAN_MM: Final = 1000.0
"""No drill travels farther; positions that do, or lie farther off, are no positions."""

TOTAL_MM: Final = (1.5, 25.0)
"""Thickness of the whole stack: known programs drill 8 to 22 mm. What is beyond was simulated, and
nothing real was ever there to compare with."""

RATES_HZ: Final = (40.0, 250.0)
"""Sample rates that were trained for; every unit seen has 100."""

DOUBTFUL: Final = 0.3
"""The highest quality of an answer that is beyond these, or that the torque does not bear out."""

_WARM_RUNS = 3
_IDLE_A = 0.5  # a drill whose torque never leaves this met nothing
_RISE_A = 0.15  # that a torque rises at least by between air and material
_FALL_SHARE = 0.9  # of the last torque: what is left behind an exit must be less
_STOPPED = {128: "by the stop button", 512: "since the tool broke", 1024: "by an abort"}
_ENDED = {1: "torque maximum", 8: "thrust limit", 64: "stroke", 2048: "torque minimum",
          8192: "maximum stroke"}  # fmt: skip
_SETTINGS = ("device", "min_quality", "runtime", "weights")


@dataclass(frozen=True, slots=True)
class _Estimate:
    """The network's numbers for one hole; each (3,) of entry, transition and exit.

    Attributes:
        point_mm: positions of torque onsets, |position|.
        tip_mm: the same of thrust.
        sigma_mm: one standard deviation of the former.
        exists: probabilities.
        quality: probability that all is right.
    """

    point_mm: NDArray[np.float64]
    tip_mm: NDArray[np.float64]
    sigma_mm: NDArray[np.float64]
    exists: NDArray[np.float64]
    quality: float


@dataclass(frozen=True, slots=True)
class DepthSettings:
    """What `model_settings` may say to the depth network.

    Attributes:
        weights: a model's folder, as written by `farm train`.
        runtime: one of `farm.models.runtime.RUNTIMES`, or auto.
        device: one of `farm.models.runtime.DEVICES`.
        min_quality: answers of less are given as insufficient; 0: none are.
    """

    weights: Path = BUILT_IN
    runtime: str = DEFAULT
    device: str = "auto"
    min_quality: float = 0.0


def read_settings(settings: Mapping[str, Any]) -> DepthSettings:
    """The settings, checked without loading anything.

    Raises:
        ModelError: one is unknown, or can't be.
    """
    unknown = sorted(set(settings) - set(_SETTINGS))
    if unknown:
        known = ", ".join(_SETTINGS)
        raise ModelError(f"model_settings: {unknown[0]!r} is unknown; depthnet knows: {known}")
    chosen = DepthSettings(
        weights=Path(settings.get("weights") or BUILT_IN),
        runtime=str(settings.get("runtime") or DEFAULT),
        device=str(settings.get("device") or "auto"),
        min_quality=_share(settings.get("min_quality", 0.0)),
    )
    try:
        check_runtime(chosen.runtime, chosen.device)
    except ModelError as error:
        raise ModelError(f"model_settings: {error}") from error
    return chosen


class DepthModel:
    """The `Model` that workers hold: DepthNet with its weights.

    Args:
        settings: see `DepthSettings`.

    Attributes:
        runtime: which one it runs under: where `auto` was asked for, the one that was chosen.

    Raises:
        ModelError: a setting is unknown or can't be, or the weights are missing, corrupt or of
            another network.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        chosen = read_settings(settings)
        self._min_quality = chosen.min_quality
        package = open_package(chosen.weights)
        self.runtime = chosen.runtime
        if self.runtime == AUTO:
            self.runtime = runtime_here(package, chosen.device)
        self._runtime = load_runtime(package, self.runtime, chosen.device)
        self.version = package.manifest.name
        self.content_hash = package.short_hash(file_of(package, self.runtime))

    def warm_up(self) -> None:
        """Run batches of 1 and 2 on a made-up hole: a runtime picks its kernels on first use.

        More than once, since TorchScript watches its first runs and compiles after them.
        """
        self._warm_up((1, 2))

    def warm_up_batches(self, most: int) -> None:
        """Run all sizes in which a GPU runs batches of up to `most` holes."""
        self._warm_up(sizes(most))

    def _warm_up(self, batches: Sequence[int]) -> None:
        ramp = np.linspace(1, 20, 1000, dtype=np.float32)
        steps = np.repeat(np.array([1, 2], np.int16), 500)
        hole = Hole(position_mm=ramp, torque_a=ramp, thrust_a=ramp, step_number=steps, steps=())
        for _ in range(_WARM_RUNS):
            for b in batches:
                self.infer([hole] * b)

    def infer(self, inputs: Sequence[Hole]) -> list[Insufficient | Mapping[str, Any]]:
        """Answer each hole: keypoints in mm of |position|, or why there are none."""
        answers: list[Any] = [_refusal(hole) for hole in inputs]
        todo = [i for i, answer in enumerate(answers) if answer is None]
        if todo:
            holes = [inputs[i] for i in todo]
            for i, hole, estimate in zip(todo, holes, self._estimates(holes), strict=True):
                answers[i] = self._answer(hole, estimate)
        return answers

    def _estimates(self, holes: Sequence[Hole]) -> list[_Estimate]:
        """The network's numbers, in one batch."""
        grids = resample(Traces.of(holes))
        columns = self._runtime(grids).astype(np.float64)
        # Wider bins than a known program's: the hole is longer than any.
        known = np.where(grids.bin_mm > 1.001 * BIN_MM, DOUBTFUL, 1.0)
        return [
            _Estimate(
                point_mm=origin_mm + row[TORQUE],
                tip_mm=origin_mm + row[TIP],
                sigma_mm=row[SIGMA],
                exists=row[EXISTS],
                quality=float(min(row[QUALITY], most)),
            )
            for row, origin_mm, most in zip(columns, grids.origin_mm, known, strict=True)
        ]

    def _answer(self, hole: Hole, estimate: _Estimate) -> Insufficient | Mapping[str, Any]:
        """The outcome of one hole."""
        entry, transition, exit_ = estimate.exists > 0.5
        if not entry:
            return Insufficient(_no_entry(hole))
        if not exit_:
            return Insufficient(_no_exit(hole))
        chosen = [0, 1, 2] if transition else [0, 2]
        keypoints = np.maximum.accumulate(estimate.point_mm[chosen])
        quality = estimate.quality
        if not _is_borne_out(hole, float(keypoints[0]), float(keypoints[-1])):
            quality = min(quality, DOUBTFUL)
        if quality < self._min_quality:
            return Insufficient(
                f"The estimate is too uncertain (quality {quality:.2f}, "
                f"wanted {self._min_quality:g})"
            )
        return depth_answer(
            keypoints.tolist(),
            sigma_mm=estimate.sigma_mm[chosen].tolist(),
            quality=quality,
            tip_mm=estimate.tip_mm[chosen].tolist(),
        )


def _is_borne_out(hole: Hole, entry_mm: float, exit_mm: float) -> bool:
    """Whether an answer lies within what is known, and the torque itself shows both its ends.

    A second opinion, since the network can't doubt what it was never shown: a dead or stuck torque
    channel does not rise behind the entry, or does not fall behind the exit.
    """
    if not TOTAL_MM[0] <= exit_mm - entry_mm <= TOTAL_MM[1]:
        return False
    if not RATES_HZ[0] <= hole.sample_rate_hz <= RATES_HZ[1]:
        return False
    reached = np.maximum.accumulate(hole.position_mm)
    at = reached.searchsorted(
        (
            entry_mm - 1.5, entry_mm - 0.3, entry_mm + 0.5, exit_mm,
            exit_mm - 1.0, exit_mm - 0.2, exit_mm + 0.6, exit_mm + 2.5,
        )
    ).tolist()  # fmt: skip
    before, inside, last, behind = (
        _mean(hole.torque_a[low:high]) for low, high in zip(at[::2], at[1::2], strict=True)
    )
    # Asked this way round for NaN: where nothing was recorded, nothing contradicts.
    return not (inside - before < _RISE_A or behind > _FALL_SHARE * last)


def _mean(values: FloatArray) -> float:
    """Of a slice where the drill first came from one place to another; NaN where it never was."""
    return float(np.add.reduce(values)) / len(values) if len(values) else math.nan


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ModelError(f"model_settings: min_quality is {value!r}, not a number from 0 to 1")
    return float(value)


def _refusal(hole: Hole) -> Insufficient | None:
    """Why a hole can't be answered, whatever the network says of it; or None."""
    if len(hole) < MIN_SAMPLES:
        return Insufficient(
            f"Too few samples to estimate depth ({len(hole)}, at least {MIN_SAMPLES} are needed)"
        )
    # Samples may have lost their step numbers: the machine's report may still tell of several.
    if len(hole.steps) <= 1 and hole.step_number.min() == hole.step_number.max():
        return Insufficient("Not enough steps to estimate depth")
    position_mm = hole.position_mm
    span_mm = np.maximum.reduce(position_mm) - np.minimum.reduce(position_mm)
    if span_mm > MAX_SPAN_MM or position_mm[0] > 100 * MAX_SPAN_MM:
        return Insufficient(f"The positions span more than {MAX_SPAN_MM:g} mm: no drill's do")
    return None


def _no_entry(hole: Hole) -> str:
    if float(np.quantile(np.abs(hole.torque_a), 0.98)) < _IDLE_A:
        return "Air drilling: the drill met no material"
    return "No entry found: the torque never began to rise as it does in material"


def _no_exit(hole: Hole) -> str:
    last = _last_step(hole)
    code = (last.stop_code if last else None) or 0
    for bit, why in _STOPPED.items():
        if last and code & bit:
            return f"Aborted: step {last.number} was stopped {why} before the drill was through"
    ended = ", ".join(word for bit, word in _ENDED.items() if code & bit)
    told = f" (step {last.number} ended on {ended})" if last and ended else ""
    return f"No exit found: the recording ends before the drill is through{told}"


def _last_step(hole: Hole) -> Step | None:
    """The machine's report of the step that the last sample belongs to."""
    if not hole.steps:
        return None
    if hole.step_number.min() == hole.step_number.max():  # the samples have lost their numbers
        return hole.steps[-1]
    number = int(hole.step_number[-1])
    return next((s for s in reversed(hole.steps) if s.number == number), None)
