"""The depth network as an ONNX file. Needs the `export` extra."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from farm.errors import ModelError

if TYPE_CHECKING:
    from farm.models.network import DepthNet

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
                net.eval(),
                net.example(2, torch.device("cpu")),
                path,
                input_names=list(INPUTS),
                output_names=["answer"],
                dynamic_axes={name: {0: "holes"} for name in (*INPUTS, "answer")},
                opset_version=_OPSET,
                dynamo=False,
            )
        return path.read_bytes()


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
    try:
        import onnx  # noqa: F401, PLC0415
        import onnxruntime  # noqa: F401, PLC0415
    except ImportError as error:
        raise ModelError(
            f"{error.name} is missing: pip install 'farm[export]' to write ONNX files"
        ) from error
