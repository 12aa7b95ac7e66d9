"""The depth network as an int8 ONNX file: static quantisation, calibrated on simulated holes.

The stem and the last merge, which run at the full rate, stay in fp32: the first sees the quanta of
the measurement, and positions are read out of the second. In int8 they would cost a tenth of the
precision and save a fifth of the time. Needs the `export` extra.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.models.onnx_export import INPUTS, export_onnx, require_export
from farm.training.calibrate import CALIBRATION_SEED
from farm.training.dataset import Recipe, make_batch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from farm.models.network import DepthNet

_BATCH = 32
_QUANTISED = ("Conv", "ConvTranspose", "Add")
_INNER = ("/down.", "/bottom/", "/up.", "/merge.1")  # the full-rate ends stay in fp32


def export_int8(net: DepthNet, *, batches: int = 16) -> bytes:
    """The network with its inner convolutions in int8.

    Args:
        net: trained and calibrated.
        batches: of simulated holes from which the ranges of activations are taken.
    """
    require_export()
    import onnx  # noqa: PLC0415 - an extra
    from onnxruntime.quantization import (  # noqa: PLC0415
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )  # fmt: skip
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        plain, ready, small = (Path(folder) / name for name in ("plain", "ready", "small"))
        plain.write_bytes(export_onnx(net))
        quant_pre_process(plain, ready)
        names = [n.name for n in onnx.load(ready).graph.node if n.op_type in _QUANTISED]
        inner = [n for n in names if n.startswith(_INNER)]
        with contextlib.redirect_stdout(io.StringIO()):  # it tells its progress unasked
            quantize_static(
                ready,
                small,
                _Holes(batches),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(_QUANTISED),
                nodes_to_quantize=inner,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={"CalibPercentile": 99.999},
            )
        return small.read_bytes()


class _Holes:
    """Feeds simulated holes to the calibration, as ONNX Runtime asks for them."""

    def __init__(self, batches: int) -> None:
        self._left = batches

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """One batch, or None after the last."""
        if not self._left:
            return None
        self._left -= 1
        batch = make_batch(Recipe(CALIBRATION_SEED, _BATCH), 10_000 + self._left)
        arrays: tuple[Any, ...] = (batch.channels, batch.position_mm, batch.used)
        return {name: a.numpy() for name, a in zip(INPUTS, arrays, strict=True)}
