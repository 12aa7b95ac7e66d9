"""What each choice in the depth network is worth: short trainings with one choice undone at a time.

Run as `python -m farm.training.ablation`; the model card has its table. Owns the variants alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from farm.models import network
from farm.models.answer import KEYPOINTS, SIGMA, TORQUE
from farm.models.grid import N_CELLS
from farm.models.network import DepthNet, Estimate
from farm.training import dataset
from farm.training.dataset import Examples
from farm.training.evaluate import TEST_SEED
from farm.training.loss import losses
from farm.training.programs import FAMILIES
from farm.training.simulator import SimulatedBatch, simulate_batch
from farm.training.train import has_fast_half

if TYPE_CHECKING:
    from torch import Tensor

    from farm.models.traces import Traces

Array = np.typing.NDArray[np.float64]

_BATCH: Final = 64
_RATE: Final = 3e-3
_TEST_PER_FAMILY: Final = 250

Change = Callable[[SimulatedBatch], SimulatedBatch]
Blind = Callable[[Examples], Examples]


@dataclass(frozen=True, slots=True)
class Variant:
    """One choice undone.

    Attributes:
        name: what is different.
        change: of the simulated holes, in training and in the test.
        blind: of the network's input, in training and in the test.
        leads: whether thrust leads torque in the holes that are trained on.
        read_out: cells around the peak that are averaged; 0 for the peak's own cell.
        at_truth: whether that window is put around the truth while training.
        tip: whether the tip's keypoints are learnt too.
    """

    name: str
    change: Change = lambda batch: batch
    blind: Blind = lambda examples: examples
    leads: bool = True
    read_out: int = 5
    at_truth: bool = False
    tip: bool = True


def by_time(batch: SimulatedBatch) -> SimulatedBatch:
    """Let the position grow evenly with time, and the truth with it: bins become equal times."""
    traces = batch.traces
    position = np.empty_like(traces.position_mm)
    points, tips = batch.keypoints_mm.copy(), batch.tip_mm.copy()
    for row, (start, end) in enumerate(zip(traces.starts[:-1], traces.starts[1:], strict=True)):
        real = np.maximum.accumulate(traces.position_mm[start:end].astype(np.float64))
        even = np.linspace(real[0], max(real[-1], real[0] + 1.0), end - start)
        position[start:end] = even
        for wanted in (points, tips):
            wanted[row] = np.interp(wanted[row], real + 1e-9 * np.arange(len(real)), even)
    return replace(
        batch, traces=replace(traces, position_mm=position), keypoints_mm=points, tip_mm=tips
    )


def steps_together(batch: SimulatedBatch) -> SimulatedBatch:
    """Bin all steps as one: where the drill was pulled back, they share bins."""
    numbers = np.ones_like(batch.traces.step_number)
    return replace(batch, traces=replace(batch.traces, step_number=numbers))


def without_thrust(batch: SimulatedBatch) -> SimulatedBatch:
    """Take the thrust away."""
    nothing = np.zeros_like(batch.traces.thrust_a)
    return replace(batch, traces=replace(batch.traces, thrust_a=nothing))


def without(*channels: int) -> Blind:
    """Take channels away."""

    def blind(examples: Examples) -> Examples:
        seen = examples.channels.clone()
        seen[:, list(channels)] = 0
        return examples._replace(channels=seen)

    return blind


VARIANTS: Final = (
    Variant("as shipped"),
    Variant("bins of equal time", change=by_time),
    Variant("steps binned together", change=steps_together),
    Variant("without thrust", change=without_thrust),
    Variant("without log-like channels", blind=without(1, 3)),
    Variant("without plain channels", blind=without(0, 2)),
    Variant("without step marks", blind=without(4)),
    Variant("without feed", blind=without(5)),
    Variant("trained without thrust's lead", leads=False),
    Variant("tip not learnt", tip=False),
    Variant("read-out: peak cell", read_out=0),
    Variant("read-out: whole map", read_out=N_CELLS),
    Variant("read-out: window at the truth in training", at_truth=True),
)


def run(variant: Variant, *, holes: int, seed: int) -> tuple[Array, Array]:
    """Train a variant briefly; returns its (n, KEYPOINTS) errors in mm and errors in sigmas."""
    torch.manual_seed(seed)
    network.READ_OUT_CELLS = variant.read_out
    net = DepthNet().train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=1e-3)
    steps, half = max(1, holes // _BATCH), has_fast_half()
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = _RATE * min(1.0, 30 * step / steps, 1.02 - step / steps)
        batch = _batch(variant, seed, step)
        optimiser.zero_grad(set_to_none=True)
        estimate = net.estimate(*batch[:3], half=half)
        if variant.at_truth:
            estimate = _read_at_truth(estimate, batch)
        torch.stack(tuple(losses(estimate, batch).values())).sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
    return _test(net.eval(), variant)


def _batch(variant: Variant, seed: int, number: int) -> Examples:
    rng = np.random.default_rng((seed, number))
    family = rng.integers(len(FAMILIES), size=_BATCH)
    examples = dataset.examples(
        variant.change(simulate_batch(family, rng, thrust_leads=variant.leads)), rng
    )
    if not variant.tip:
        points = examples.point_mm.clone()
        points[:, KEYPOINTS:] = torch.nan
        examples = examples._replace(point_mm=points)
    return variant.blind(examples)


def _read_at_truth(estimate: Estimate, examples: Examples) -> Estimate:
    """The read-out as if the peak lay where the truth is."""
    far = (examples.position_mm[:, None] - examples.point_mm.nan_to_num()[:, :, None]).abs()
    peak = far.argmin(2)
    point_mm = network.read_out(estimate.logits, examples.position_mm, peak)[0]
    return replace(estimate, point_mm=point_mm)


def _test(net: DepthNet, variant: Variant) -> tuple[Array, Array]:
    """Errors on the same test holes for all, good ones alone; mm of the drill's real path."""
    found: list[tuple[Tensor, Tensor]] = []
    rng = np.random.default_rng(TEST_SEED)
    with torch.inference_mode():
        for family in range(len(FAMILIES)):
            batch = simulate_batch([family] * _TEST_PER_FAMILY, rng, faults=0)
            examples = variant.blind(dataset.examples(variant.change(batch), rng))
            columns = net(*examples[:3])
            answer, truth = columns[:, TORQUE], examples.point_mm[:, :KEYPOINTS]
            scale = torch.ones_like(truth)
            if variant.change is by_time:
                scale = torch.from_numpy(_mm_per_even_mm(batch)).float()
            error = (answer - truth).abs() * scale
            found.append((error, error / columns[:, SIGMA] / scale))
    mm, sd = (torch.cat(columns).numpy().astype(np.float64) for columns in zip(*found, strict=True))
    return mm, sd


def _mm_per_even_mm(batch: SimulatedBatch) -> Array:
    """(b, KEYPOINTS) how far the drill really went per mm of evenly spread time."""
    traces: Traces = batch.traces
    scale = np.ones((len(traces), KEYPOINTS))
    for row, (start, end) in enumerate(zip(traces.starts[:-1], traces.starts[1:], strict=True)):
        real = np.maximum.accumulate(traces.position_mm[start:end].astype(np.float64))
        even_step = max(real[-1] - real[0], 1.0) / max(end - start - 1, 1)
        speed = np.gradient(real) / even_step if len(real) > 1 else np.ones(1)
        at = np.searchsorted(real, np.nan_to_num(batch.keypoints_mm[row], nan=real[0]))
        smooth = np.convolve(np.pad(speed, 5, mode="edge"), np.ones(11) / 11, "valid")
        scale[row] = smooth[np.clip(at, 0, len(real) - 1)]
    return scale


def main() -> None:
    """Train all variants and print their table, in Markdown."""
    holes = int(sys.argv[1]) if len(sys.argv) > 1 else 60_000
    chosen = sys.argv[2:]
    torch.set_num_threads(1)
    print("| variant | entry | transition | exit | within 1 sd | within 1.96 sd |\n|" + "---|" * 6)  # noqa: T201 - its output
    for variant in VARIANTS:
        if chosen and not any(word in variant.name for word in chosen):
            continue
        mm, sd = run(variant, holes=holes, seed=11)
        cells = [f"{np.nanmedian(c):.3f} / {np.nanquantile(c, 0.95):.3f}" for c in mm.T]
        known = sd[np.isfinite(sd)]
        cells += [f"{np.mean(known <= z):.1%}" for z in (1.0, 1.96)]
        print(f"| {variant.name} | {' | '.join(cells)} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
