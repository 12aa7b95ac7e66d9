"""The built-in depth network: three heat maps over |position|, read out below a bin's width.

Owns the network and its `Model`; the input grid is `farm.models.grid`, training `farm.training`.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from farm.drilling.hole import Hole
from farm.errors import ModelError
from farm.models.grid import CHANNELS, Grid, resample
from farm.models.model import Insufficient, depth_answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VERSION = "depthnet-1"
WEIGHTS = Path(__file__).with_name("weights") / "depthnet.pt"

MIN_SAMPLES = 18
"""The shortest hole that a machine was seen to publish; less is a fragment."""

_WIDTHS = (24, 32, 48, 64)  # features at each depth of the U; the grid halves between two
_DILATIONS = (1, 2, 4, 8)  # at the bottom, where a bin is 0.4 mm: these see the whole hole
_READ_OUT_BINS = 6  # the heat map's centre of mass is taken within +- 0.3 mm of its peak
_OUTSIDE = -1e4  # a logit that loses to any bin inside, yet finite: no softmax gives NaN


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


class DepthNet(nn.Module):
    """A small U-Net over the grid: one heat map of logits each for entry, transition and exit."""

    def __init__(self) -> None:
        super().__init__()
        first, *_ = _WIDTHS
        self.stem = nn.Sequential(
            nn.Conv1d(CHANNELS, first, 7, padding=3, bias=False), nn.BatchNorm1d(first), nn.ReLU()
        )
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv1d(a, b, 3, stride=2, padding=1), nn.ReLU(), _Block(b))
            for a, b in itertools.pairwise(_WIDTHS)
        )
        self.bottom = nn.Sequential(*(_Block(_WIDTHS[-1], d) for d in _DILATIONS))
        self.up = nn.ModuleList(
            nn.ConvTranspose1d(b, a, 2, stride=2) for a, b in itertools.pairwise(_WIDTHS)
        )
        self.merge = nn.ModuleList(_Block(width) for width in _WIDTHS[:-1])
        self.head = nn.Conv1d(first, 3, 1)

    def forward(self, channels: Tensor) -> Tensor:
        """Grids (b, CHANNELS, N_BINS) to logits (b, 3, N_BINS)."""
        levels = [self.stem(channels)]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = self.bottom(levels.pop())
        for up, merge in zip(reversed(self.up), reversed(self.merge), strict=True):
            x = merge(up(x) + levels.pop())
        logits: Tensor = self.head(x)
        return logits


def read_out(logits: Tensor, used: Tensor) -> Tensor:
    """Keypoints (b, 3) in bins from logits (b, 3, N_BINS), in order of depth and never NaN.

    Args:
        logits: the network's output.
        used: (b,) how many bins each hole fills; no keypoint lies beyond.
    """
    index = torch.arange(logits.shape[-1], device=logits.device)
    entry, transition, exit_ = logits.masked_fill(index >= used[:, None, None], _OUTSIDE).unbind(1)
    # Entry first, then an exit behind it, then a transition between: each keeps a bin at least.
    entry_at = _centre(entry, index)
    exit_ = exit_.masked_fill(index < entry_at.floor()[:, None], _OUTSIDE)
    exit_at = torch.maximum(_centre(exit_, index), entry_at)
    outside = (index < entry_at.floor()[:, None]) | (index > exit_at.floor()[:, None])
    between = _centre(transition.masked_fill(outside, _OUTSIDE), index)
    transition_at = torch.minimum(torch.maximum(between, entry_at), exit_at)
    return torch.stack((entry_at, transition_at, exit_at), 1)


def _centre(logits: Tensor, index: Tensor) -> Tensor:
    """The centre of mass (b,) of heat maps (b, n) around their peaks, in bins from the left."""
    peak = logits.argmax(-1, keepdim=True)
    near = logits.masked_fill((index - peak).abs() > _READ_OUT_BINS, 2 * _OUTSIDE)
    return (near.softmax(-1) * (index + 0.5)).sum(-1)


class DepthModel:
    """The `Model` that workers hold: DepthNet with its weights.

    Args:
        settings: `weights` names another weights file, written by `farm train`.

    Raises:
        ModelError: a setting is unknown, or the weights are missing, corrupt or of another network.
    """

    version = VERSION

    def __init__(self, settings: Mapping[str, Any]) -> None:
        unknown = sorted(set(settings) - {"weights"})
        if unknown:
            raise ModelError(f"model_settings: {unknown[0]!r} is unknown; depthnet knows: weights")
        path = Path(settings.get("weights") or WEIGHTS)
        payload = _read(path)
        self.content_hash = hashlib.sha256(payload).hexdigest()[:16]
        self._net = load_weights(payload, path)

    def warm_up(self) -> None:
        """Run batches of 1 and 2 on a made-up hole: torch picks its kernels on first use."""
        ramp = np.linspace(1, 20, 1000, dtype=np.float32)
        steps = np.repeat(np.array([1, 2], np.int16), 500)
        hole = Hole(position_mm=ramp, torque_a=ramp, thrust_a=ramp, step_number=steps, steps=())
        self.infer([hole])
        self.infer([hole, hole])

    def infer(self, inputs: Sequence[Hole]) -> list[Insufficient | Mapping[str, Any]]:
        """Answer each hole: keypoints in mm of |position|, or why there are none."""
        answers: list[Any] = [_refusal(hole) for hole in inputs]
        todo = [i for i, answer in enumerate(answers) if answer is None]
        if todo:
            grids = [resample(inputs[i]) for i in todo]
            for i, keypoints in zip(todo, self._keypoints_mm(grids), strict=True):
                answers[i] = depth_answer(keypoints)
        return answers

    def _keypoints_mm(self, grids: Sequence[Grid]) -> list[list[float]]:
        """The three keypoints of each grid, in one batch."""
        with torch.inference_mode():
            logits = self._net(torch.from_numpy(np.stack([g.channels for g in grids])))
            bins = read_out(logits, torch.tensor([g.used for g in grids])).tolist()
        return [
            [g.origin_mm + g.bin_mm * b for b in row] for g, row in zip(grids, bins, strict=True)
        ]


def _refusal(hole: Hole) -> Insufficient | None:
    """Why a hole can't be answered, or None when it can."""
    if len(hole) < MIN_SAMPLES:
        return Insufficient("Too few samples to estimate depth")
    if hole.step_number.min() == hole.step_number.max():
        return Insufficient("Not enough steps to estimate depth")
    return None


def _read(path: Path) -> bytes:
    """The weights file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"can't read the weights {path}: {error.strerror}: correct model_settings.weights, "
            "or make the file with `farm train --out FILE`"
        ) from error


def load_weights(payload: bytes, path: Path) -> DepthNet:
    """The network that a weights file holds, ready to infer.

    Raises:
        ModelError: the payload is corrupt, or was made for another network.
    """
    cure = "restore the file, or make it anew with `farm train --out FILE`"
    try:
        saved = _unpack(payload)
    except Exception as error:  # zipfile and torch raise anything at all on a broken file
        cause = f"{type(error).__name__}: {str(error)[:80]}"
        raise ModelError(f"the weights {path} are corrupt ({cause}): {cure}") from error
    found = saved.get("version") if isinstance(saved, dict) else None
    if found != VERSION:
        raise ModelError(f"the weights {path} are of {found!r}, not {VERSION!r}: {cure}")
    net = DepthNet()
    try:
        net.load_state_dict(saved["state"])
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"the weights {path} do not fit this network: {cure}") from error
    return net.eval()


def _unpack(payload: bytes) -> Any:
    """What torch saved, its checksums compared: a flipped bit must not become a wrong network.

    torch itself reads its zip archive without looking at the checksums in it.
    """
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        broken = archive.testzip()
    if broken is not None:
        raise ValueError(f"checksum of {broken}")
    return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)


def save_weights(net: DepthNet, path: Path, provenance: Mapping[str, int | float | str]) -> None:
    """Write a network, with how it was made, so that `DepthModel` can hold it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"version": VERSION, "state": net.state_dict(), **provenance}, path)
