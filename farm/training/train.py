"""Training of the depth network, from simulated holes, alone or with a site's recorded ones."""

from __future__ import annotations

import math
import resource
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psutil
import torch
from torch.utils.data import DataLoader

from farm.errors import ModelError
from farm.models.network import DepthNet
from farm.models.package import WEIGHTS, open_package
from farm.models.weights import load_network
from farm.training.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from farm.training.dataset import BatchStream, Examples, Recipe
from farm.training.loss import losses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.optim import Optimizer

    from farm.training.recorded import LabelledHole

_WARM_UP_SHARE = 0.03  # of the steps, for the learning rate to rise
_WEIGHT_DECAY = 1e-3
_SAVE_EVERY_S = 60.0
_SMOOTH = 0.98  # of the losses that are shown: about the last fifty steps


@dataclass(frozen=True, slots=True)
class Plan:
    """What to train: equal plans give equal weights, but for the order of floating-point sums.

    Attributes:
        holes: how many to learn from, in all.
        seed: of everything random.
        batch: holes in each step.
        learning_rate: its highest.
        threads: of torch.
        start: folder of the model whose weights to begin with; "" for none.
        data_share: of each batch that is taken from recorded holes, where there are any.
        half: run the convolutions in bfloat16, about two thirds of the cost where the processor
            computes in it, dearer elsewhere.
    """

    holes: int
    seed: int = 1
    batch: int = 64
    learning_rate: float = 3e-3
    threads: int = 1
    start: str = ""
    data_share: float = 0.3
    half: bool = False

    @property
    def steps(self) -> int:
        """How many updates that makes."""
        return max(1, self.holes // self.batch)


class Progress(Protocol):
    """Is told how far a run is."""

    def __call__(self, done: int, losses: dict[str, float], /) -> None:
        """After each step: holes done in all, and the smoothed losses."""
        ...


@dataclass(slots=True)
class Trained:
    """A finished run: the network, and what it cost."""

    net: DepthNet
    told: dict[str, Any]


def train(
    plan: Plan, *, folder: Path, progress: Progress, resume: bool = False,
    recorded: tuple[LabelledHole, ...] = (),
) -> Trained:  # fmt: skip
    """Train a network.

    The run's state outlives it, so that what comes after can be done again: with `resume`, a
    finished run comes back as it was. Who has no more need of it removes the file `CHECKPOINT`.

    Args:
        plan: what to train.
        folder: where the run's state is kept.
        progress: is told how far it is.
        resume: go on from the state in the folder.
        recorded: a site's own holes with their labels, mixed into the batches.

    Raises:
        ModelError: there is nothing to resume, or it is of another plan; or `plan.start` is no
            model.
    """
    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    net = _first_network(plan).train()
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=plan.learning_rate, weight_decay=_WEIGHT_DECAY
    )
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / CHECKPOINT
    done, spent_s, shown = _resume(state, net, optimiser, plan) if resume else (0, 0.0, {})
    saved_s = time.monotonic()

    def save() -> None:
        told = {"plan": asdict(plan), "done": done, "cpu_s": spent_s + _cpu_s(), "losses": shown}
        save_checkpoint(state, net, optimiser, told)

    try:
        for step, batch in _batches(plan, done, recorded):
            _set_rate(optimiser, plan, step)
            parts = _update(net, optimiser, batch, half=plan.half)
            keep = _SMOOTH if shown else 0.0
            shown = {k: keep * shown.get(k, 0.0) + (1 - keep) * v for k, v in parts.items()}
            done = step + 1
            progress(done * plan.batch, shown)
            if time.monotonic() - saved_s > _SAVE_EVERY_S:
                saved_s = time.monotonic()
                save()
    finally:
        # Whatever ended it, Ctrl-C, an error or the plan: none of the work is lost.
        save()
    return Trained(net.eval(), _told(plan, len(recorded), spent_s + _cpu_s(), shown))


def has_fast_half() -> bool:
    """Whether this processor computes in bfloat16 itself; elsewhere it would be slower."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _told(plan: Plan, recorded: int, cpu_s: float, shown: dict[str, float]) -> dict[str, Any]:
    """What the manifest says of a run."""
    told = asdict(plan) | {"recorded_holes": recorded, "cpu_s": round(cpu_s)}
    told["losses"] = {name: round(value, 4) for name, value in shown.items()}
    # A path of the machine that it was made on means nothing elsewhere.
    told["start"] = Path(plan.start).name
    return told


def _first_network(plan: Plan) -> DepthNet:
    if not plan.start:
        return DepthNet()
    package = open_package(Path(plan.start))
    return load_network(package.read(WEIGHTS), package.folder / WEIGHTS)


def _resume(
    state: Path, net: DepthNet, optimiser: Optimizer, plan: Plan
) -> tuple[int, float, dict[str, float]]:
    """Steps done, CPU seconds spent and losses shown by the run that is gone on with."""
    if not state.exists():
        raise ModelError(f"there is no stopped run in {state.parent}: start it without --resume")
    told = load_checkpoint(state, net, optimiser)
    if told["plan"] != asdict(plan):
        changed = [k for k, v in asdict(plan).items() if told["plan"].get(k) != v]
        raise ModelError(
            f"{state} is of a run with another {', '.join(changed)}: give it the same, "
            "or start anew with --overwrite"
        )
    return int(told["done"]), float(told["cpu_s"]), dict(told.get("losses", {}))


def _batches(
    plan: Plan, done: int, recorded: tuple[LabelledHole, ...]
) -> Iterator[tuple[int, Examples]]:
    """The steps that are left, each with its batch; made by a process beside this one."""
    if done >= plan.steps:
        return iter(())  # and no process
    recipe = Recipe(plan.seed, plan.batch, first=done, data_share=plan.data_share)
    loader: DataLoader[Examples] = DataLoader(
        BatchStream(recipe, recorded), batch_size=None, num_workers=1, prefetch_factor=6
    )
    return zip(range(done, plan.steps), loader, strict=False)


def _set_rate(optimiser: Optimizer, plan: Plan, step: int) -> None:
    """A short rise, then a cosine to zero."""
    share = step / plan.steps
    rise = share / _WARM_UP_SHARE
    fall = 0.5 * (1 + math.cos(math.pi * (share - _WARM_UP_SHARE) / (1 - _WARM_UP_SHARE)))
    optimiser.param_groups[0]["lr"] = plan.learning_rate * (rise if rise < 1 else fall)


def _update(
    net: DepthNet, optimiser: Optimizer, batch: Examples, *, half: bool
) -> dict[str, float]:
    """One step on a batch: the parts of its loss."""
    optimiser.zero_grad(set_to_none=True)
    estimate = net.estimate(batch.channels, batch.position_mm, batch.used, half=half)
    parts = losses(estimate, batch)
    torch.stack(tuple(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimiser.step()
    return {name: float(part.detach()) for name, part in parts.items()}


def _cpu_s() -> float:
    """Seconds of CPU that this process and the ones it started, ended or not, have used so far."""
    ended = sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
    return ended + sum(map(_used_s, psutil.Process().children()))


def _used_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:  # it ended meanwhile
        return 0.0
    return float(times.user + times.system)
