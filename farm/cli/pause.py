"""`farm pause`: take in nothing more, until `farm resume`."""

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
    """Have a running farm take in nothing more, until `farm resume`.

    What was taken in is answered. What comes meanwhile waits at the MQTT broker, which holds as
    much as its own limits allow. It stays paused over restarts (not with journal.durability off);
    `farm stats` says so.

    \b
    Example:
      farm pause && … && farm resume
    """
    order(config_path, state_dir, wire.Pause())
    click.echo("paused: what was taken in is still answered; `farm resume` goes on")
