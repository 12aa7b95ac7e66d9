"""`farm workers`: the workers of a running farm, here and on other machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from farm import wire
from farm.cli import known
from farm.cli.group import Group
from farm.cli.operator import order, place
from farm.cli.options import config_option, state_dir_option
from farm.control import fetch_stats
from farm.printable import json_line, printable

if TYPE_CHECKING:
    from pathlib import Path


@click.group(cls=Group, invoke_without_command=True)
@config_option
@state_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_context
def command(
    context: click.Context, config_path: Path | None, state_dir: Path | None, *, as_json: bool
) -> None:
    """List the workers of a running farm, or have one leave.

    \b
    Examples:
      farm workers
      farm workers --json
      farm workers drain line-7
    """
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console  # noqa: PLC0415 - not for --help

    from farm.telemetry.workers import table  # noqa: PLC0415

    _, control = place(config_path, state_dir)
    found: list[dict[str, Any]] = fetch_stats(control)["workers"]
    if as_json:
        click.echo(json_line(found))
    elif not found:
        click.echo("no workers: start some with `farm scale N`, or attach one (farm keys --help)")
    else:
        console = Console()
        console.print(table(found, console.width))


@command.command()
@config_option
@state_dir_option
@click.argument("name", shell_complete=known.workers)
def drain(config_path: Path | None, state_dir: Path | None, name: str) -> None:
    """Have the worker NAME finish what it has and leave.

    On this machine the supervisor starts another in its place; one of another machine stays away.
    NAME may be that of a key, too: then all workers that came in by it leave.

    \b
    Examples:
      farm workers drain line-7
      farm workers drain 3
    """
    order(config_path, state_dir, wire.DrainWorker(name))
    click.echo(
        f"{printable(name)} finishes what it has and leaves; `farm workers` shows when it is gone"
    )
