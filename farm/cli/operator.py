"""What the commands of an operator share: asking a running farm for something."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from farm import wire
from farm.cli.options import load
from farm.control import ask
from farm.errors import FarmError
from farm.state_dir import endpoints, locate_state_dir

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 5.0


def place(config_path: Path | None, state_dir: Path | None) -> tuple[Path, str]:
    """The state directory of a farm, and its control socket.

    Raises:
        ConfigError: the configuration is wrong.
    """
    config = load(config_path, state_dir=state_dir).config
    directory = locate_state_dir(config, os.environ)
    return directory, endpoints(config, directory).control


def order(config_path: Path | None, state_dir: Path | None, request: wire.Message) -> None:
    """Have a running farm do something.

    Raises:
        NoFarmError: no farm answers.
        FarmError: it refuses.
    """
    _, control = place(config_path, state_dir)
    reply = ask(control, request, timeout_s=TIMEOUT_S)
    if not isinstance(reply, wire.Done):
        raise FarmError(f"the farm answered with {type(reply).__name__}")
