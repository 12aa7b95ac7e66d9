"""The options that most commands share, and the one way in which they load the configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from farm.cli.known import folders
from farm.errors import FarmError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farm.config import Loaded

PAGE_LISTEN = "127.0.0.1:8780"  # where the page is, unless it is said otherwise

# Not checked for existence here: `load_config` says more about a missing file, with exit code 3.
config_option = click.option(
    "-c",
    "--config",
    "config_path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Configuration file (YAML).  [default: FARM_CONFIG, else built-in defaults]",
)

state_dir_option = click.option(
    "--state-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    shell_complete=folders,
    help="Folder of sockets and lock; one farm each.  [default: ~/.local/state/farm]",
)

models_dir_option = click.option(
    "--models-dir",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where models of your own are, each in a folder named by its number.  "
    "[default: mqtt.processing.models_dir of the configuration]",
)


def load(
    config_path: Path | None,
    *,
    state_dir: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Loaded:
    """The configuration of a command: its options over this process's environment over the file.

    Args:
        config_path: of `config_option`.
        state_dir: of `state_dir_option`.
        overrides: values of further options by dotted key, e.g. "mqtt.processing.workers".

    Raises:
        ConfigError: with one line for each problem.
    """
    from farm.config import load_config  # noqa: PLC0415 - a third of a second, not for --help

    given = {"state_dir": state_dir, **(overrides or {})}
    return load_config(config_path, given, os.environ)


def make_folder(folder: Path) -> None:
    """Make the folder of `--out`, before any work is done that could not be kept.

    Raises:
        FarmError: it can't be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FarmError(f"can't make --out {folder} ({error.strerror}): choose another") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FarmError(f"can't write to --out {folder}: choose another, or mend its rights")
