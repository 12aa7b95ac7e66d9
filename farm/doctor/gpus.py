"""The GPUs: which there are, who gets them, the driver, PyTorch's build, and free memory.

Asks the driver's files and its own `nvidia-smi`; CUDA itself is not begun.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING, Final

from farm.doctor.finding import Finding, fail, ok, warn
from farm.errors import StateError
from farm.gpus import DRIVER, VISIBLE, Plan, found, plan, torch_cuda, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farm.config import Config
    from farm.doctor.patient import Patient
    from farm.gpus import Gpu

DRIVERS: Final = {11: 450, 12: 525, 13: 580}
"""The oldest driver that runs programs of a CUDA of this major version (NVIDIA's CUDA Compatibility
guide, minor version compatibility)."""

LEAST_FREE_MB: Final = 1500
"""A CUDA context takes 300 to 500 MB; the depth network with batches of 256 some hundred more."""

_ASKED: Final = ("index", "memory.total", "memory.free")
_ASK_TIMEOUT_S: Final = 10.0  # a driver that has nothing loaded yet takes seconds
_VERSION: Final = re.compile(r"Kernel Module.*?\s([0-9]+)(?:\.[0-9]+)+\s")


def examine(patient: Patient) -> Iterator[Finding]:
    """See the module."""
    config, here = patient.config, found()
    seen = visible(here, os.environ)
    try:
        made = plan(config, os.environ, here=here)
    except StateError as error:
        yield fail("gpus.found", str(error), "correct workers.gpus: the farm does not start")
        return
    wants = config.model_settings.get("device") == "cuda" or bool(made.workers)
    is_elsewhere = config.workers.launch == "ray"
    yield judge_found(here, seen, made, wants=wants and not is_elsewhere)
    if not here:
        return
    cuda = torch_cuda()
    yield judge_torch(cuda, wants=wants)
    yield judge_driver(_driver_version(), cuda)
    yield from judge_memory(_memory(), config, made)


def judge_found(
    here: tuple[Gpu, ...], seen: tuple[Gpu, ...], made: Plan, *, wants: bool
) -> Finding:
    """Whether there are GPUs for those who want one.

    Args:
        here: of this machine or container.
        seen: that CUDA_VISIBLE_DEVICES leaves of them.
        made: who gets one.
        wants: whether a worker needs one.
    """
    check = "gpus.found"
    if not here:
        if made.workers:
            return warn(
                check,
                f"no GPU is to be seen here, and {len(made.workers)} workers are to have one",
                "see whether `nvidia-smi -L` lists it; under WSL it does, and all is well",
            )
        if wants:
            return fail(
                check,
                "model_settings.device is cuda, and there is no GPU",
                "install the NVIDIA driver (in a container: --gpus all; under systemd:"
                " PrivateDevices=no), or set device to auto",
            )
        return ok(check, "there is none, and none is wanted")
    names = ", ".join(f"{gpu.index}: {gpu.model or 'unnamed'}" for gpu in here)
    if not seen:
        said = f"{VISIBLE} hides all of them ({names})"
        return fail(check, said, "unset it") if wants else ok(check, said)
    hidden = f", of which {VISIBLE} hides {len(here) - len(seen)}" if len(seen) < len(here) else ""
    who = ", ".join(f"{name} on {gpu.device}" for name, gpu in made.workers.items())
    return ok(check, f"{names}{hidden}; workers with one: {who or 'none'}")


def judge_torch(cuda: str, *, wants: bool) -> Finding:
    """Whether PyTorch can use a GPU; `cuda` is the version that it was built with, "" for none."""
    check = "gpus.torch"
    if cuda:
        return ok(check, f"PyTorch was built with CUDA {cuda}")
    said = "PyTorch is not here, or was built without CUDA: it can't use the GPUs that there are"
    cure = "install a build with CUDA (https://pytorch.org/get-started/locally)"
    if wants:
        return fail(check, said, cure)
    return warn(check, said, f"{cure}, or set workers.gpus to none to hear no more of it")


def judge_driver(version: int, cuda: str) -> Finding:
    """Whether the driver is new enough; its major version, 0 where it is not known."""
    check = "gpus.driver"
    if not version:
        return warn(
            check,
            f"the driver does not tell its version in {DRIVER / 'version'}",
            "see whether `nvidia-smi` works",
        )
    major = int(cuda.partition(".")[0] or 0)
    oldest = DRIVERS.get(major, 0)
    if version < oldest:
        return fail(
            check,
            f"the driver is of version {version}, and PyTorch's CUDA {cuda} needs {oldest}",
            "update the NVIDIA driver, or install PyTorch for an older CUDA",
        )
    return ok(check, f"the driver is of version {version}")


def judge_memory(
    free_mb: dict[int, tuple[int, int]] | None, config: Config, made: Plan
) -> Iterator[Finding]:
    """Whether the workers of each GPU fit into it.

    Args:
        free_mb: by index the total and the free memory in MB; None: nobody tells.
        config: in force.
        made: who gets one.
    """
    check = "gpus.memory"
    if free_mb is None:
        yield warn(check, "`nvidia-smi` does not tell the memory", "see whether it works")
        return
    for index in sorted({gpu.index for gpu in made.workers.values()} & free_mb.keys()):
        total, free = free_mb[index]
        needed = LEAST_FREE_MB * config.workers.per_gpu
        said = f"cuda:{index} has {free} MB of {total} free"
        if free < needed:
            yield warn(
                check,
                f"{said}; {config.workers.per_gpu} workers of it take about {needed}",
                "see `nvidia-smi` for who has it; or fewer workers.per_gpu, or less"
                " dispatch.gpu_batch_jobs",
            )
        else:
            yield ok(check, said)


def version_of(text: str) -> int:
    """The major version in the driver's file `version`; 0 where there is none."""
    match = _VERSION.search(text)
    return int(match[1]) if match else 0


def _driver_version() -> int:
    try:
        return version_of((DRIVER / "version").read_text(errors="replace"))
    except OSError:
        return 0


def _memory() -> dict[int, tuple[int, int]] | None:
    """By index the total and the free memory in MB; None: there is nobody to ask."""
    command = ["nvidia-smi", f"--query-gpu={','.join(_ASKED)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_ASK_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return memory_of(done.stdout)


def memory_of(text: str) -> dict[int, tuple[int, int]] | None:
    """What `nvidia-smi` has written; None where that can't be read."""
    try:
        rows = [[int(cell) for cell in line.split(",")] for line in text.splitlines()]
        return {index: (total, free) for index, total, free in rows}
    except ValueError:
        return None
