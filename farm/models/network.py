"""The depth network: heat maps along the drill's path, read out below a cell's width.

Owns the network alone, from grids to numbers. What the numbers mean for a hole is
`farm.models.depthnet`'s, training is `farm.training`'s.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from farm.models.answer import KEYPOINTS, POINTS
from farm.models.grid import CHANNELS, N_BINS, N_CELLS

READ_OUT_CELLS = 5
"""The heat map's centre of mass is taken so far on either side of its peak: within 0.5 mm."""

_WIDTHS = (32, 48, 64)  # features at each depth of the U; the cells double between two
_DILATIONS = (1, 2, 4, 8)  # at the bottom, where a cell is 0.4 mm: these see the whole hole
_OUTSIDE = -1e4  # a logit that loses to any cell inside, yet finite: no softmax gives NaN
_LOG_Z95 = math.log(1.96)  # of a normal distribution: half of its 95 % interval, in sd
_LOG_SD_RANGE = (math.log(1e-3), math.log(100.0))  # in mm: no input makes a sigma overflow
_HIDDEN = 48


class _Block(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm1d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(b, width, n) to the same shape."""
        return torch.relu(x + self.body(x))


@dataclass(slots=True)
class Estimate:
    """What the network says of b holes, as training needs it.

    Attributes:
        logits: (b, POINTS, N_CELLS) heat maps; cells that are not used lose.
        point_mm: (b, POINTS) read out of them, from the hole's first sample.
        log_spread: (b, POINTS, 2) log of the errors' 68 % and 95 % quantiles in mm.
        exists: (b, KEYPOINTS) logits: whether the hole has such a keypoint.
        quality: (b,) logit: whether all of that is right.
    """

    logits: Tensor
    point_mm: Tensor
    log_spread: Tensor
    exists: Tensor
    quality: Tensor


class DepthNet(nn.Module):
    """A small U-Net along the drill's path, with one heat map for each keypoint of each channel."""

    def __init__(self) -> None:
        super().__init__()
        first, *_, deepest = _WIDTHS
        # The first convolution sees bins and writes cells: the network runs at half the rate.
        self.stem = nn.Sequential(
            nn.Conv1d(CHANNELS, first, 8, stride=2, padding=3, bias=False),
            nn.BatchNorm1d(first),
            nn.ReLU(),
            _Block(first),
        )
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv1d(a, b, 4, stride=2, padding=1), nn.ReLU(), _Block(b))
            for a, b in itertools.pairwise(_WIDTHS)
        )
        self.bottom = nn.Sequential(*(_Block(deepest, d) for d in _DILATIONS))
        self.up = nn.ModuleList(
            nn.ConvTranspose1d(b, a, 2, stride=2) for a, b in itertools.pairwise(_WIDTHS)
        )
        self.merge = nn.ModuleList(_Block(width) for width in _WIDTHS[:-1])
        self.heat = nn.Conv1d(first, POINTS, 1)
        facts = 3 * POINTS  # of each heat map: height of its peak, its width, its share of the mass
        self.spread = nn.Sequential(
            nn.Conv1d(POINTS * (first + 3) + 2 * deepest, _HIDDEN, 1),
            nn.ReLU(),
            nn.Conv1d(_HIDDEN, 2 * POINTS, 1),
        )
        self.verdict = nn.Sequential(
            nn.Linear(2 * deepest + facts + 2 * POINTS, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, KEYPOINTS + 1),
        )
        self.calibration: Tensor
        self.register_buffer("calibration", torch.zeros(POINTS))

    def estimate(
        self, channels: Tensor, position_mm: Tensor, used: Tensor, *, half: bool = False
    ) -> Estimate:
        """Grids of b holes, as `farm.models.grid.Grids` has them, to all that there is to say.

        With `half` the convolutions run in bfloat16, for training; what is read out of them never
        does: a position needs more than its three digits.
        """
        with torch.autocast(channels.device.type, torch.bfloat16, enabled=half):
            features, bottom = self._features(channels)
        logits = self.heat(features) + (1 - used[:, None]) * _OUTSIDE
        peak = _peaks(logits)
        point_mm, width, mass, height = read_out(logits, position_mm, peak)
        at = peak[:, None].expand(-1, features.shape[1], -1)  # never expands the features
        at_peak = torch.gather(features, 2, at).transpose(1, 2)
        facts = torch.cat((width, mass, height), 1)
        context = torch.cat((bottom.mean(2), bottom.amax(2)), 1)
        known = torch.cat((at_peak.flatten(1), facts, context), 1)
        spread = self.spread(known[:, :, None])[:, :, 0].view(-1, POINTS, 2)
        verdict = self.verdict(torch.cat((context, facts, spread.detach().flatten(1)), 1))
        return Estimate(logits, point_mm, spread, verdict[:, :KEYPOINTS], verdict[:, KEYPOINTS])

    def forward(self, channels: Tensor, position_mm: Tensor, used: Tensor) -> Tensor:
        """Grids of b holes to their answers (b, COLUMNS), as `farm.models.answer` names them."""
        e = self.estimate(channels, position_mm, used)
        # Between the two quantiles, so that both of a normal distribution's intervals hold.
        log_sd = 0.5 * (e.log_spread[..., 0] + e.log_spread[..., 1] - _LOG_Z95) + self.calibration
        log_sd = log_sd.clamp(*_LOG_SD_RANGE)
        return torch.cat(
            (e.point_mm, log_sd.exp(), e.exists.sigmoid(), e.quality.sigmoid()[:, None]), 1
        )

    def half_features(self) -> None:
        """Run the convolutions in bfloat16; what is read out of them stays in float32."""
        for part in (self.stem, self.down, self.bottom, self.up, self.merge):
            part.bfloat16()

    @staticmethod
    def example(b: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs of the right shapes, to trace the network with."""
        return (
            torch.zeros(b, CHANNELS, N_BINS, device=device),
            torch.zeros(b, N_CELLS, device=device),
            torch.ones(b, N_CELLS, device=device),
        )

    def _features(self, channels: Tensor) -> tuple[Tensor, Tensor]:
        """(b, CHANNELS, N_BINS) to features of each cell (b, f, N_CELLS), and of the whole."""
        levels = [self.stem(channels.to(next(self.stem.parameters()).dtype))]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = bottom = self.bottom(levels.pop())
        for up, merge in zip(reversed(self.up), reversed(self.merge), strict=True):
            x = merge(up(x) + levels.pop())
        return x.float(), bottom.float()


def _peaks(logits: Tensor) -> Tensor:
    """The best cell (b, POINTS) of each heat map, in order of depth: entry, transition, exit."""
    index = torch.arange(logits.shape[2], device=logits.device)
    entry = logits[:, 0::KEYPOINTS].argmax(2, keepdim=True)
    exit_ = _best(logits[:, 2::KEYPOINTS], index >= entry)
    between = _best(logits[:, 1::KEYPOINTS], (index >= entry) & (index <= exit_))
    # Torque's three, then the tip's.
    return torch.cat((entry, between, exit_), 2).flatten(1)


def _best(logits: Tensor, allowed: Tensor) -> Tensor:
    return (logits + (~allowed) * 2 * _OUTSIDE).argmax(2, keepdim=True)


def read_out(
    logits: Tensor, position_mm: Tensor, peak: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Around each peak: centre of mass in mm, and three facts of order one (b, POINTS) each.

    These are the logs of the width in mm, of the share of the whole map's mass that is farther
    away, and of the peak's height.
    """
    index = torch.arange(logits.shape[2], device=logits.device)
    log_p = logits.log_softmax(2)
    near = (index - peak[:, :, None]).abs() <= READ_OUT_CELLS
    weight = (log_p + (~near) * 2 * _OUTSIDE).softmax(2)
    at = position_mm[:, None]
    centre = (weight * at).sum(2)
    variance = (weight * (at - centre[:, :, None]) ** 2).sum(2)
    elsewhere = (log_p.exp() * ~near).sum(2)
    return (
        centre,
        0.5 * (variance + 1e-4).log(),
        (elsewhere + 1e-5).log() / 4,
        log_p.amax(2),
    )
