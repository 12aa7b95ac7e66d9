"""`farm scale`: more or fewer local workers, while the farm runs."""

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
@click.argument("workers", type=click.IntRange(0, 1000))
def command(config_path: Path | None, state_dir: Path | None, workers: int) -> None:
    """Have a running farm keep WORKERS local workers from now on.

    Those that are too many finish their hole and leave. It lasts until the farm is stopped; the
    configuration says with how many it starts.

    \b
    Examples:
      farm scale 4
      farm scale 10 --state-dir /var/lib/farm
    """
    order(config_path, state_dir, wire.Scale(workers))
    click.echo(f"{workers} workers from now on; `farm stats` shows them come or go")
