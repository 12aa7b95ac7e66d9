"""What the depth network is trained to minimise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everybody knows it by

from farm.models.answer import KEYPOINTS

if TYPE_CHECKING:
    from farm.models.network import Estimate
    from farm.training.dataset import Examples

GOOD_MM = 0.5
"""Quality is the probability that every keypoint is nearer to the truth than this."""

QUANTILES = (0.68, 0.95)
"""Of the absolute errors, that the spread head learns."""

_TARGET_SD_MM = 0.1  # the heat map to aim for: one cell, about what repeats on real machines
_SCALE_MM = 0.1  # of the read-out's loss: beyond it, linear
_FARTHEST = 20.0  # in scales: a wrong peak is the heat map's business, the distance says no more
_SMALLEST_MM = 1e-3
_WEIGHTS = {"heat": 1.0, "distance": 0.5, "spread": 0.2, "exists": 0.5, "quality": 0.2}


def losses(estimate: Estimate, examples: Examples) -> dict[str, Tensor]:
    """Each part of the loss, weighted: their sum is to be minimised."""
    truth = examples.point_mm
    known = ~truth.isnan()
    error = estimate.point_mm - truth.nan_to_num()
    parts = {
        "heat": _heat(estimate, examples)[known].mean(),
        "distance": _distance(error)[known].mean(),
        "spread": _pinball(error.detach().abs(), estimate.log_spread)[known].mean(),
        "exists": _binary(estimate.exists, examples.exists),
        "quality": _binary(estimate.quality, is_good(estimate, examples)),
    }
    return {name: _WEIGHTS[name] * part for name, part in parts.items()}


def is_good(estimate: Estimate, examples: Examples) -> Tensor:
    """(b,) 1 where all keypoints are right, and it is right which there are; else 0."""
    truth = examples.point_mm[:, :KEYPOINTS]
    near = (estimate.point_mm[:, :KEYPOINTS] - truth).abs().detach() < GOOD_MM
    told = (estimate.exists.detach() > 0) == (examples.exists > 0.5)
    return ((near | truth.isnan()) & (told | examples.exists.isnan())).all(1).float()


def _heat(estimate: Estimate, examples: Examples) -> Tensor:
    """(b, POINTS) cross-entropy with a narrow bell around the truth, where the drill was new."""
    position = examples.position_mm
    fresh = position + 1e-3 >= position.cummax(1).values
    distance = (position[:, None] - examples.point_mm.nan_to_num()[:, :, None]) / _TARGET_SD_MM
    bell = -0.5 * distance**2
    bell = bell.masked_fill(~(fresh & (examples.used > 0))[:, None], -1e4)
    return -(bell.softmax(2) * estimate.logits.log_softmax(2)).sum(2)


def _distance(error: Tensor) -> Tensor:
    scaled = (error / _SCALE_MM).abs().clamp(max=_FARTHEST)
    return F.smooth_l1_loss(scaled, torch.zeros_like(scaled), reduction="none")


def _pinball(distance: Tensor, log_spread: Tensor) -> Tensor:
    """(b, POINTS) the loss whose least value is at the quantiles of the log of the distance."""
    gap = distance.clamp(min=_SMALLEST_MM).log()[..., None] - log_spread
    quantile = torch.tensor(QUANTILES)
    return torch.maximum(quantile * gap, (quantile - 1) * gap).mean(-1)


def _binary(logit: Tensor, target: Tensor) -> Tensor:
    known = ~target.isnan()
    loss = F.binary_cross_entropy_with_logits(logit, target.nan_to_num(), reduction="none")
    return loss[known].mean()
