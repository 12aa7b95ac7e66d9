"""`farm scale`: more or fewer local workers, while the farm runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from farm import wire
from farm.cli.operator import order
from farm.cli.options import config_option, state_dir_option

if TYPE_CHECKING:
    from pathlib import Path

MAX_WORKERS = 1000


def _number(_ctx: click.Context, _param: click.Parameter, value: str) -> int:
    """So many, or `wire.Scale.AUTO`."""
    if value.lower() == "auto":
        return wire.Scale.AUTO
    if not (value.isascii() and value.isdecimal() and int(value) <= MAX_WORKERS):
        raise click.BadParameter(f"{value!r} is neither a number up to {MAX_WORKERS} nor auto")
    return int(value)


@click.command()
@config_option
@state_dir_option
@click.argument("workers", metavar="WORKERS|auto", callback=_number)
def command(config_path: Path | None, state_dir: Path | None, workers: int) -> None:
    """Have a running farm keep WORKERS local workers from now on.

    Those that are too many finish their hole and leave. It lasts until the farm is stopped; the
    configuration says with how many it starts. `auto` gives the number back to the load, where
    workers.min or workers.max is configured, else to what is configured.

    \b
    Examples:
      farm scale 4
      farm scale auto
      farm scale 10 --state-dir /var/lib/farm
    """
    order(config_path, state_dir, wire.Scale(workers))
    told = "as the load says" if workers == wire.Scale.AUTO else f"{workers} workers"
    click.echo(f"{told} from now on; `farm stats` shows them come or go")
