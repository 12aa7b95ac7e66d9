"""The ways to run the depth network: grids in, numbers out. All answer the same within their loss.

Owns what differs between them: frozen TorchScript, torch.compile, bfloat16, a GPU, ONNX Runtime,
and int8 under it, which needs no torch at all. docs/models.md has their figures side by side.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, Final, Protocol

from farm.errors import ModelError
from farm.models.ort import import_onnxruntime
from farm.models.package import INT8, ONNX, WEIGHTS, Package
from farm.models.staging import Staging

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from farm.models.grid import Grids

RUNTIMES: Final = ("frozen", "eager", "compiled", "bf16", "onnx", "int8")
DEVICES: Final = ("auto", "cpu", "cuda")
AUTO: Final = "auto"
"""The fastest that is safe on this machine: `farm.models.machine` says which that is."""

DEFAULT: Final = AUTO
EXACT: Final = "frozen"
"""The network as it was trained, on whatever machine: what models are scored by."""


THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Runtime(Protocol):
    """A network that is ready to run."""

    def __call__(self, grids: Grids) -> NDArray[np.float32]:
        """(b, COLUMNS), as `farm.models.answer` names them."""
        ...


def check_runtime(name: str, device: str) -> None:
    """Make sure that there are such a runtime and device, without loading anything.

    Raises:
        ModelError: there are not.
    """
    if name not in (AUTO, *RUNTIMES):
        allowed = ", ".join((AUTO, *RUNTIMES))
        raise ModelError(f"runtime {name!r} is unknown: choose one of {allowed}")
    if device not in DEVICES:
        raise ModelError(f"device {device!r} is unknown: choose one of {', '.join(DEVICES)}")
    if name in ("onnx", "int8") and device == "cuda":
        raise ModelError(f"{name} runs on the CPU: choose device auto or cpu, or another runtime")


def load_runtime(package: Package, name: str, device: str) -> Runtime:
    """The package's network under a runtime.

    Raises:
        ModelError: the runtime or device is unknown or not to be had here, or the package's files
            are corrupt or of another network.
    """
    check_runtime(name, device)
    assert name != AUTO  # what that means is decided before
    if name == "int8":
        return OnnxRuntime(package.read(INT8))
    if name == "onnx":
        has_file = ONNX in package.manifest.sha256
        return OnnxRuntime(package.read(ONNX) if has_file else _exported(package))
    return TorchRuntime(package, name, device)


def file_of(package: Package, name: str) -> str:
    """The package's file that a runtime runs: its hash is published."""
    own = {"int8": INT8, "onnx": ONNX}.get(name, WEIGHTS)
    return own if own in package.manifest.sha256 or own == INT8 else WEIGHTS


def _exported(package: Package) -> bytes:
    """The package's weights as an fp32 ONNX network, made now: older packages have none."""
    from farm.models.onnx_export import export_onnx  # noqa: PLC0415
    from farm.models.weights import load_network  # noqa: PLC0415 - needs torch

    return export_onnx(load_network(package.read(WEIGHTS), package.folder / WEIGHTS))


class OnnxRuntime:
    """An ONNX network under ONNX Runtime, on one thread as every worker runs."""

    def __init__(self, payload: bytes) -> None:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads()
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


def threads() -> int:
    """As many as OpenMP is told; a list such as "4,2" is by level, and the first counts."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else 1


class TorchRuntime:
    """The network under PyTorch."""

    def __init__(self, package: Package, name: str, device: str) -> None:
        import torch  # noqa: PLC0415 - seconds: whoever runs int8 does without

        from farm.models.weights import load_network  # noqa: PLC0415

        self._torch = torch
        self.device = _device(torch, device)
        self._staging: Staging | None = None
        if self.device.type == "cuda":
            # TF32 is PyTorch's default for convolutions, and has the three digits of bfloat16.
            torch.backends.cudnn.allow_tf32 = False
            self._staging = Staging(torch, self.device)
        net = load_network(package.read(WEIGHTS), package.folder / WEIGHTS).to(self.device)
        if name == "bf16":
            net.half_features()
        self._net: Any = net
        if name in ("frozen", "bf16"):
            self._net = _frozen(torch, net, self.device)
        elif name == "compiled":
            self._net = torch.compile(net, dynamic=True)

    def __call__(self, grids: Grids) -> NDArray[np.float32]:
        """Run a batch; on a GPU as a whole."""
        torch = self._torch
        with torch.inference_mode():
            arrays = (grids.channels, grids.position_mm, grids.used)
            if self._staging is None:
                inputs = [torch.from_numpy(array) for array in arrays]
            else:
                inputs = self._staging.to_device(arrays)
            # The only place where a GPU is waited for.
            answer: NDArray[np.float32] = self._net(*inputs).float().cpu().numpy()
        return answer[: len(grids.channels)]


def _frozen(torch: Any, net: Any, device: Any) -> Any:
    """The network as frozen TorchScript.

    PyTorch calls it deprecated and advises torch.compile, which here is slower and needs a compiler
    on the machine (docs/models.md has the figures): until it goes, it is used, without the advice.
    """
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.freeze(torch.jit.trace(net, net.example(2, device), check_trace=False))


def _device(torch: Any, wanted: str) -> Any:
    """The torch device; `auto` is a GPU where there is one."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            "device cuda: this machine, or this build of PyTorch, has none: "
            "choose device auto or cpu, or install PyTorch with CUDA"
        )
    cuda = wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if cuda else "cpu")
