"""A training run's folder and its state there, so that it can be stopped and taken up again.

safetensors, like the weights: nothing in it can carry code.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from farm.errors import FarmError, ModelError
from farm.models.package import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor, nn

CHECKPOINT = "checkpoint.safetensors"

_NET, _OPTIMISER = "net.", "optimiser."


def claim_folder(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Make sure that nothing in the folder of a run is lost by mistake.

    Args:
        folder: of the run's state and of the model that comes of it.
        resume: what is in it is gone on with.
        overwrite: what is in it may go; a stopped run goes at once, a model when the new one comes.

    Raises:
        FarmError: it holds a run or a model.
    """
    if resume:
        return
    if overwrite:
        (folder / CHECKPOINT).unlink(missing_ok=True)
    elif (folder / CHECKPOINT).exists():
        raise FarmError(
            f"{folder} holds a stopped run: go on with it by --resume, choose another --out, "
            "or give it up with --overwrite"
        )
    elif (folder / MANIFEST).exists():
        raise FarmError(
            f"{folder} holds a model: choose another --out, or replace it with --overwrite"
        )


def save_checkpoint(
    path: Path, net: nn.Module, optimiser: torch.optim.Optimizer, told: dict[str, Any]
) -> None:
    """Write the run's state at once: whoever is killed while at it keeps the former one."""
    tensors = {_NET + name: value.contiguous() for name, value in net.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"{_OPTIMISER}{index}.{key}": v.contiguous() for key, v in state.items()}
    part = path.with_name(path.name + ".part")
    save_file(tensors, part, metadata={"told": json.dumps(told)})
    part.replace(path)


def load_checkpoint(path: Path, net: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Put a saved state into a network and its optimiser; returns what was told with it.

    Raises:
        ModelError: the file is missing, corrupt or of another network.
    """
    try:
        with safe_open(path, "pt") as saved:
            told = json.loads(saved.metadata()["told"])
            tensors = {name: saved.get_tensor(name) for name in saved.keys()}  # noqa: SIM118
        net.load_state_dict(_under(_NET, tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(_OPTIMISER, tensors).items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
        optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"can't go on from {path} ({str(error)[:120]}): start anew with --overwrite"
        ) from error
    assert isinstance(told, dict)
    return told


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
