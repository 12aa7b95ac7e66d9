"""The GPUs of this machine, and which of them get workers of their own. Nothing is imported for it.

Owns the looking (the NVIDIA driver's files, CUDA_VISIBLE_DEVICES) and the `plan`. CUDA itself is
asked by nobody but the workers: a process that has done so can't be forked, and it takes seconds.

A worker is told its GPU by CUDA_VISIBLE_DEVICES, so that for its model it is the only one there is.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from farm.config.gpus import AUTO, NONE, items
from farm.errors import ModelError, StateError
from farm.models.registry import package_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from farm.config import Config

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
ORDER: Final = "CUDA_DEVICE_ORDER"
MIG: Final = "MIG-"  # how the UUID of a part of a GPU begins
BY_BUS: Final = "PCI_BUS_ID"  # the order of nvidia-smi, and of the driver's folder
DRIVER: Final = Path("/proc/driver/nvidia")
DEVICES: Final = Path("/dev")
_RUNTIMES: Final = ("auto", "frozen", "eager", "compiled", "bf16")  # those that a GPU can run
_NODE: Final = re.compile(r"nvidia([0-9]+)")
_HIDDEN: Final = ("", "-1", "NoDevFiles", "none", "void")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, or a part of one (MIG).

    Attributes:
        index: by which people call it, as nvidia-smi does.
        uuid: "" where the driver does not tell it.
        model: likewise, in words.
    """

    index: int
    uuid: str = ""
    model: str = ""

    @property
    def device(self) -> str:
        """As `farm stats` shows it."""
        return f"cuda:{self.index}"

    @property
    def environment(self) -> dict[str, str]:
        """What a worker is started with so that it sees this one alone."""
        return {VISIBLE: self.uuid or str(self.index), ORDER: BY_BUS}


@dataclass(frozen=True, slots=True)
class Plan:
    """Which workers get a GPU.

    Attributes:
        workers: the GPU of each, by the worker's name.
        is_only: the model is for GPUs alone: there are no other workers.
        hides: whether the other workers must not see any GPU.
    """

    workers: Mapping[str, Gpu]
    is_only: bool = False
    hides: bool = False


NO_GPU_ENVIRONMENT: Final = {VISIBLE: ""}


# ---- which there are ---------------------------------------------------------------------------


def found(driver: Path = DRIVER, devices: Path = DEVICES) -> tuple[Gpu, ...]:
    """The GPUs of this machine or container, whoever may see them.

    Args:
        driver: the folder of the NVIDIA driver in /proc.
        devices: where the device nodes are.
    """
    nodes = _nodes(devices)
    told = [_of_driver(path) for path in _folders(driver / "gpus")]
    # A container sees the whole driver, but only has the nodes of the GPUs that it was given.
    usable = [each for each in told if each.get("Device Minor", "") in nodes]
    if usable:
        return tuple(
            Gpu(index, each.get("GPU UUID", ""), each.get("Model", ""))
            for index, each in enumerate(usable)
        )
    return tuple(Gpu(index) for index in range(len(nodes)))


def visible(all_of_them: tuple[Gpu, ...], environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """Those that CUDA_VISIBLE_DEVICES lets this process see, in its order."""
    told = environ.get(VISIBLE)
    if told is None:
        return all_of_them
    seen: list[Gpu] = []
    for item in (part.strip() for part in told.split(",")):
        gpu = None if item in _HIDDEN else _named(item, all_of_them, len(seen))
        if gpu is None:  # CUDA, too, goes no farther than what it does not know
            break
        seen.append(gpu)
    return tuple(seen)


def _named(item: str, all_of_them: tuple[Gpu, ...], place: int) -> Gpu | None:
    if item.startswith(MIG):
        return Gpu(place, item)
    for gpu in all_of_them:
        is_it = gpu.index == int(item) if item.isdecimal() else gpu.uuid.startswith(item)
        if is_it:
            return gpu
    if all_of_them:
        return None
    # There is no driver to ask (WSL): whoever has set it knows.
    return Gpu(int(item)) if item.isdecimal() else Gpu(place, item)


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())  # named by their place on the bus
    except OSError:
        return []


def _of_driver(folder: Path) -> dict[str, str]:
    """What the driver tells of a GPU: `Model`, `GPU UUID`, `Device Minor` and others."""
    try:
        lines = (folder / "information").read_text(errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _nodes(devices: Path) -> set[str]:
    """The minor numbers of the device nodes of GPUs."""
    try:
        names = [path.name for path in devices.iterdir()]
    except OSError:
        return set()
    return {match[1] for match in map(_NODE.fullmatch, names) if match}


# ---- which get workers -------------------------------------------------------------------------


def plan(
    config: Config, environ: Mapping[str, str], *, here: tuple[Gpu, ...] | None = None
) -> Plan:
    """Which workers get a GPU on this machine.

    Args:
        config: in force.
        environ: of the supervisor.
        here: the GPUs; None: those that are found.

    Raises:
        StateError: one is asked for that is not here, or that can't be told from another, or bounds
            for workers that there are none of.
    """
    wanted = config.workers.gpus
    if wanted == NONE:
        return Plan({}, hides=True)
    all_of_them = found() if here is None else here
    is_only = config.model_settings.get("device") == "cuda"
    if config.workers.launch == "ray":  # they are elsewhere, and Ray gives them theirs
        if wanted != AUTO:
            raise StateError(
                "workers.gpus is about GPUs of this machine, and workers.launch: ray gives them out"
                " itself: leave it out, and say ray.num_gpus"
            )
        return Plan({})
    seen = visible(all_of_them, environ)
    if wanted == AUTO:
        chosen = seen if seen and (is_only or _would_use_one(config)) else ()
    else:
        chosen = tuple(_chosen(wanted, seen, all_of_them, environ))
    if is_only and chosen and (config.workers.min or config.workers.max):
        raise StateError(
            "workers.min and workers.max are for workers without a GPU, and model_settings.device:"
            " cuda has none: leave them out"
        )
    chosen = tuple(dict.fromkeys(chosen))  # whoever names one twice gets it once
    is_mixed = len({gpu.uuid.startswith(MIG) for gpu in chosen}) > 1
    if is_mixed or len({gpu.index for gpu in chosen}) < len(chosen):
        raise StateError(
            f"workers.gpus: {wanted} names GPUs in two ways (parts, MIG, beside whole ones; or"
            " UUIDs beside indices where the driver can't be asked), and which is which nobody here"
            " can tell: name all of them in one way"
        )
    names = {
        f"gpu{gpu.index}" + (f"-{number}" if number > 1 else ""): gpu
        for gpu in chosen
        for number in range(1, config.workers.per_gpu + 1)
    }
    return Plan(names, is_only=is_only and bool(names), hides=bool(names))


def _chosen(
    wanted: str, seen: tuple[Gpu, ...], all_of_them: tuple[Gpu, ...], environ: Mapping[str, str]
) -> Iterator[Gpu]:
    if not seen and (all_of_them or VISIBLE in environ):
        raise StateError(f"workers.gpus: {VISIBLE} hides all GPUs: unset it, or workers.gpus")
    listed = items(wanted)
    if not listed:
        count = int(wanted)
        if seen and count > len(seen):
            raise StateError(
                f"workers.gpus: {count}, but this machine shows {_told(seen)}: ask for no more, or"
                f" see whether {VISIBLE} hides some"
            )
        # Where nothing can be counted (WSL), whoever wrote the number knows.
        yield from seen[:count] if seen else (Gpu(index) for index in range(count))
        return
    for place, item in enumerate(listed):
        gpu = _named(item, seen, place)
        if gpu is None:
            raise StateError(
                f"workers.gpus: there is no GPU {item} among {_told(seen)}: `nvidia-smi -L` lists"
                f" those of this machine, {VISIBLE} may hide some"
            )
        yield gpu


def hides(config: Config, environ: Mapping[str, str]) -> bool:
    """Whether a worker without a GPU, or the nursery of such ones, must not see any."""
    try:
        return plan(config, environ).hides
    except StateError:  # the supervisor has said so
        return False


def _told(gpus: tuple[Gpu, ...]) -> str:
    listed = ", ".join(f"{gpu.index} ({gpu.model or gpu.uuid or 'unnamed'})" for gpu in gpus)
    return f"{len(gpus)}: {listed}"


def is_depth_network(config: Config) -> bool:
    """Whether the model is one of ours that knows a `device`."""
    processing = config.mqtt.processing
    try:
        package = package_of(
            config.model, processing.model_id, config.model_settings, processing.models_dir
        )
    except ModelError:  # the workers will say so
        return False
    return package is not None


def _would_use_one(config: Config) -> bool:
    """Whether the model takes a GPU by itself: the depth network, under a PyTorch with CUDA."""
    settings = config.model_settings
    is_free = settings.get("device") in (None, "auto")
    has_runtime = settings.get("runtime") in (None, *_RUNTIMES)
    return is_free and has_runtime and is_depth_network(config) and bool(torch_cuda())


def gpu_settings(config: Config) -> dict[str, Any]:
    """The model's settings in a worker with a GPU, which must not fall back to the CPU unseen."""
    settings = dict(config.model_settings)
    if "device" in settings or is_depth_network(config):
        settings["device"] = "cuda"
    return settings


def on_ray(config: Config) -> float:
    """How many GPUs, or which share of one, Ray is to keep free for each worker."""
    told = config.ray.num_gpus or config.ray.resources.get("GPU", 0.0)
    is_only = config.model_settings.get("device") == "cuda"
    return told or (1 / config.workers.per_gpu if is_only else 0.0)


def torch_cuda() -> str:
    """The version of CUDA that PyTorch here was built with, without importing it; "": none."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    return cuda_of(Path(spec.origin).with_name("version.py"))


def cuda_of(version_file: Path) -> str:
    """The version of CUDA that stands in PyTorch's version.py; "" where none does."""
    try:
        text = version_file.read_text(errors="replace")
    except OSError:
        return ""
    match = re.search(r"^cuda\b[^=\n]*=\s*['\"]([0-9.]+)['\"]", text, re.MULTILINE)
    return match[1] if match else ""


def device_settings(config: Config, device: str) -> Config:
    """The configuration of a worker on this device; "": it has no GPU."""
    if not device:
        return config
    return config.model_copy(update={"model_settings": gpu_settings(config)})


def assigned(name: str, environ: Mapping[str, str]) -> Gpu:
    """The GPU of a worker that was told one.

    Args:
        name: an index, a UUID, or auto: the first that is visible, as Ray or a scheduler sets it.
        environ: of the worker.

    Raises:
        StateError: there is none.
    """
    seen = visible(found(), environ)
    is_hidden = not seen and VISIBLE in environ
    if name == AUTO:
        if not seen:
            raise StateError(
                "--gpu auto: this machine shows no GPU (`farm doctor` says why), or"
                f" {VISIBLE} hides all"
            )
        return seen[0]
    if not is_hidden and (name.isdecimal() or name.startswith(("GPU-", MIG))):
        gpu = _named(name, seen, 0)  # where nothing can be counted (WSL) it is believed
        if gpu is not None:
            return gpu
    raise StateError(
        f"--gpu {name}: give an index or a UUID (`nvidia-smi -L`), or auto; here are"
        f" {_told(seen) if seen else 'none'}" + (f": {VISIBLE} hides all" if is_hidden else "")
    )
