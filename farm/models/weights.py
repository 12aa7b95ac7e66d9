"""The depth network's weights as safetensors: bytes in, a network out, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load, save

from farm.errors import ModelError
from farm.models.network import DepthNet

if TYPE_CHECKING:
    from pathlib import Path


def load_network(payload: bytes, path: Path) -> DepthNet:
    """The network that a weights file holds, ready to infer.

    Args:
        payload: the file's content.
        path: where it came from, for the message.

    Raises:
        ModelError: the payload is corrupt, or was made for another network.
    """
    cure = "restore the file, or make it anew with `farm train --out FOLDER`"
    try:
        state = load(payload)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"the weights {path} are corrupt ({str(error)[:80]}): {cure}") from error
    net = DepthNet()
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"the weights {path} do not fit this network: {cure}") from error
    return net.eval()


def dump_network(net: DepthNet) -> bytes:
    """The weights file of a network."""
    return save({name: value.contiguous() for name, value in net.state_dict().items()})
