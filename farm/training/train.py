"""Training of the depth network, from simulated holes alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everybody knows it by
from torch.utils.data import DataLoader

from farm.models.depthnet import DepthNet, read_out, save_weights
from farm.training.dataset import HoleStream

if TYPE_CHECKING:
    from pathlib import Path

BATCH = 64
_LEARNING_RATE = 3e-3
_WARM_UP_SHARE = 0.03  # of the time, for the learning rate to rise
_TARGET_SD_BINS = 1.5  # the heat map to aim for: 0.075 mm, about what repeats on real machines
_DISTANCE_WEIGHT = 0.1  # of the read-out's error, against the heat map's cross-entropy
_REPORT_S = 15.0

Progress = Callable[[str], None]


def train(*, minutes: float, seed: int, out: Path, progress: Progress) -> None:
    """Train a new network and write its weights.

    The seed fixes the holes and the first weights. How many steps fit into the time depends on the
    machine, so the steps done are written into the file as well.

    Args:
        minutes: how long to train.
        seed: of everything random.
        out: the weights file to write.
        progress: is given a line now and then.
    """
    torch.manual_seed(seed)
    net = DepthNet().train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=_LEARNING_RATE, weight_decay=1e-4)
    loader = DataLoader(HoleStream(seed), batch_size=BATCH, num_workers=1, prefetch_factor=4)
    started = reported = time.monotonic()
    step, loss = 0, torch.zeros(())
    for channels, target, used in loader:
        share = min(1.0, (time.monotonic() - started) / (60 * minutes))
        optimiser.param_groups[0]["lr"] = _LEARNING_RATE * _schedule(share)
        loss = _step(net, optimiser, channels, target, used)
        step += 1
        if time.monotonic() - reported >= _REPORT_S:
            reported = time.monotonic()
            progress(f"{share:4.0%}  step {step}  holes {step * BATCH}  loss {loss.item():.3f}")
        if share >= 1:
            break
    save_weights(net, out, {"seed": seed, "steps": step, "batch": BATCH, "minutes": minutes})
    progress(f"wrote {out}: seed {seed}, {step * BATCH} holes, loss {loss.item():.3f}")


def _schedule(share: float) -> float:
    """The learning rate's share at this share of the time: a short rise, then a cosine to zero."""
    if share < _WARM_UP_SHARE:
        return share / _WARM_UP_SHARE
    return 0.5 * (1 + math.cos(math.pi * (share - _WARM_UP_SHARE) / (1 - _WARM_UP_SHARE)))


def _step(
    net: DepthNet, optimiser: torch.optim.Optimizer, channels: Tensor, target: Tensor, used: Tensor
) -> Tensor:
    """One update on a batch: its loss."""
    optimiser.zero_grad(set_to_none=True)
    loss = depth_loss(net(channels), target, used)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimiser.step()
    return loss.detach()


def depth_loss(logits: Tensor, target: Tensor, used: Tensor) -> Tensor:
    """Cross-entropy with a narrow bell around the truth, and the read-out's distance from it.

    Args:
        logits: (b, 3, N_BINS).
        target: (b, 3) keypoints in bins; negative where there is none.
        used: (b,) bins that each hole fills.
    """
    known = target >= 0
    index = torch.arange(logits.shape[-1]) + 0.5
    bell = -0.5 * ((index - target[..., None]) / _TARGET_SD_BINS) ** 2
    heat = -(bell.softmax(-1) * logits.log_softmax(-1)).sum(-1)
    distance = F.smooth_l1_loss(read_out(logits, used), target, reduction="none", beta=1.0)
    # A wrong peak is the cross-entropy's business: beyond a millimetre the distance says no more.
    return (heat + _DISTANCE_WEIGHT * distance.clamp(max=20))[known].mean()
