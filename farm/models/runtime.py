"""The ways to run the depth network: grids in, numbers out. All answer the same within their loss.

Owns what differs between them: frozen TorchScript, torch.compile, bfloat16, a GPU, and int8 under
ONNX Runtime, which needs no torch at all. docs/models.md has their speeds and losses side by side.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any, Final, Protocol

from farm.errors import ModelError
from farm.models.package import INT8, WEIGHTS, Package

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from farm.models.grid import Grids

RUNTIMES: Final = ("frozen", "eager", "compiled", "bf16", "int8")
DEVICES: Final = ("auto", "cpu", "cuda")
DEFAULT: Final = "frozen"


class Runtime(Protocol):
    """A network that is ready to run."""

    def __call__(self, grids: Grids) -> NDArray[np.float32]:
        """(b, COLUMNS) as `farm.models.network.DepthNet.forward` says."""
        ...


def load_runtime(package: Package, name: str, device: str) -> Runtime:
    """The package's network under a runtime.

    Raises:
        ModelError: the runtime or device is unknown or not to be had here, or the package's files
            are corrupt or of another network.
    """
    if name not in RUNTIMES:
        raise ModelError(f"runtime {name!r} is unknown: choose one of {', '.join(RUNTIMES)}")
    if device not in DEVICES:
        raise ModelError(f"device {device!r} is unknown: choose one of {', '.join(DEVICES)}")
    if name == "int8":
        if device == "cuda":
            raise ModelError("int8 runs on the CPU: choose device auto or cpu, or another runtime")
        return OnnxRuntime(package.read(INT8))
    return TorchRuntime(package, name, device)


class OnnxRuntime:
    """An ONNX network under ONNX Runtime, on one thread as every worker runs."""

    def __init__(self, payload: bytes) -> None:
        if importlib.util.find_spec("onnxruntime") is None:
            raise ModelError(
                "the int8 runtime needs ONNX Runtime: pip install 'farm[onnx]', "
                "or set model_settings.runtime to frozen"
            )
        import onnxruntime  # noqa: PLC0415 - an extra, and 0.1 s to import

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
        options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                payload, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the library raises classes of its own that it doesn't export
            raise ModelError(f"ONNX Runtime refuses the network: {error}") from error

    def __call__(self, grids: Grids) -> NDArray[np.float32]:
        """Run a batch."""
        inputs = {
            "channels": grids.channels, "position_mm": grids.position_mm, "used": grids.used
        }  # fmt: skip
        answer: NDArray[np.float32] = self._session.run(None, inputs)[0]
        return answer


class TorchRuntime:
    """The network under PyTorch."""

    def __init__(self, package: Package, name: str, device: str) -> None:
        import torch  # noqa: PLC0415 - seconds: whoever runs int8 does without

        from farm.models.weights import load_network  # noqa: PLC0415

        self._torch = torch
        self.device = _device(torch, device)
        self._dtype = torch.bfloat16 if name == "bf16" else torch.float32
        net = load_network(package.read(WEIGHTS), package.folder / WEIGHTS).to(self.device)
        if name == "bf16":
            net.half_features()
        self._net: Any = net
        if name in ("frozen", "bf16"):
            with torch.inference_mode():
                traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                    net, net.example(2, self.device), check_trace=False
                )
                self._net = torch.jit.freeze(traced)
        elif name == "compiled":
            self._net = torch.compile(net, dynamic=True)

    def __call__(self, grids: Grids) -> NDArray[np.float32]:
        """Run a batch; on a GPU as a whole."""
        torch = self._torch
        with torch.inference_mode():
            inputs = [
                torch.from_numpy(a).to(self.device)
                for a in (grids.channels, grids.position_mm, grids.used)
            ]
            answer: NDArray[np.float32] = self._net(*inputs).float().cpu().numpy()
        return answer


def _device(torch: Any, wanted: str) -> Any:
    """The torch device; `auto` is a GPU where there is one."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            "device cuda: this machine, or this build of PyTorch, has none: "
            "choose device auto or cpu, or install PyTorch with CUDA"
        )
    cuda = wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if cuda else "cpu")
