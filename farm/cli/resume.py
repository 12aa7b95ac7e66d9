"""`farm resume`: take in again after `farm pause`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from farm import wire
from farm.cli.operator import order
from farm.cli.options import config_option, state_dir_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@config_option
@state_dir_option
def command(config_path: Path | None, state_dir: Path | None) -> None:
    """Have a running farm take in again, after `farm pause`.

    \b
    Example:
      farm resume
    """
    order(config_path, state_dir, wire.Resume())
    click.echo("resumed")
