"""The configuration that `farm start` runs with: read, and checked for what it refers to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from farm.cli.options import load
from farm.doors.keyring import check_keys
from farm.references import check_references
from farm.state_dir import Endpoints, endpoints, resolve_state_dir

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from farm.config import Config, Loaded


def read_checked(
    config_path: Path | None, state_dir: Path | None, overrides: Mapping[str, Any]
) -> Loaded:
    """Read it.

    Args:
        config_path: of the option.
        state_dir: of the option.
        overrides: values of further options by dotted key.

    Raises:
        ConfigError: it can't be used.
    """
    loaded = load(config_path, state_dir=state_dir, overrides=overrides)
    check_references(loaded.config)
    return loaded


def where(config: Config) -> tuple[Path, Endpoints]:
    """The state directory, made if it is missing, and the sockets.

    Raises:
        StateError: it can't be used, or other machines may attach and none has a key.
    """
    directory = resolve_state_dir(config, os.environ)
    if config.attach.listen:
        check_keys(directory)
    return directory, endpoints(config, directory)
