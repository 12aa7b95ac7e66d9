"""The depth network as an ONNX file. Needs the `export` extra.

Its convolutions are written with two dimensions, the first of length one: ONNX Runtime has its
fast blocked kernels for those alone, and is a seventh faster for it. The numbers are the same.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from farm.errors import ModelError
from farm.models.network import DepthNet
from farm.models.ort import import_onnxruntime

INPUTS: Final = ("channels", "position_mm", "used")
"""Names of the network's inputs, in order."""

_OPSET = 17


def export_onnx(net: DepthNet) -> bytes:
    """The network in fp32, for batches of any size."""
    require_export()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        with warnings.catch_warnings():
            # The newer exporter needs a package more, and writes the same graph.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _planar(net),
                net.example(2, torch.device("cpu")),
                path,
                input_names=list(INPUTS),
                output_names=["answer"],
                dynamic_axes={name: {0: "holes"} for name in (*INPUTS, "answer")},
                opset_version=_OPSET,
                dynamo=False,
            )
        return path.read_bytes()


class _PlanarNet(DepthNet):
    """The network with what it convolves as planes of height one."""

    def _features(self, channels: Tensor) -> tuple[Tensor, Tensor]:
        features, bottom = super()._features(channels[:, :, None])
        return features[:, :, 0], bottom[:, :, 0]


def _planar(net: DepthNet) -> DepthNet:
    """A copy whose convolutions run along the second of two dimensions."""
    planar = copy.deepcopy(net).eval()
    for part in (planar.stem, planar.down, planar.bottom, planar.up, planar.merge):
        _widen(part)
    planar.__class__ = _PlanarNet  # the same parts, called in another way
    return planar


def _widen(part: nn.Module) -> None:
    """Give every convolution inside a leading dimension of length one."""
    for name, layer in list(part.named_children()):
        wide = _wide(layer)
        if wide is None:
            _widen(layer)
            continue
        state = layer.state_dict().items()
        wide.load_state_dict({k: v[:, :, None] if v.ndim == 3 else v for k, v in state})
        setattr(part, name, wide.eval())


def _wide(layer: nn.Module) -> nn.Module | None:
    """The layer's sister with two dimensions, not yet with its weights; None where it has none."""
    if isinstance(layer, nn.BatchNorm1d):
        return nn.BatchNorm2d(layer.num_features)
    if not isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
        return None
    kind = nn.Conv2d if isinstance(layer, nn.Conv1d) else nn.ConvTranspose2d
    return kind(
        layer.in_channels,
        layer.out_channels,
        (1, layer.kernel_size[0]),
        stride=(1, layer.stride[0]),
        padding=(0, int(layer.padding[0])),
        dilation=(1, layer.dilation[0]),
        bias=layer.bias is not None,
    )


def can_export() -> bool:
    """Whether the `export` extra is installed."""
    try:
        require_export()
    except ModelError:
        return False
    return True


def require_export() -> None:
    """Make sure that the `export` extra is installed.

    Raises:
        ModelError: it is not.
    """
    import_onnxruntime()
    try:
        import onnx  # noqa: F401, PLC0415
    except ImportError as error:
        raise ModelError(
            f"{error.name} is missing: pip install 'farm[export]' to write ONNX files"
        ) from error
