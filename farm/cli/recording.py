"""`farm recording`: what is in a recording, and what was answered."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from farm.cli.options import config_option, load
from farm.errors import ExitCode
from farm.printable import json_line, printable

if TYPE_CHECKING:
    from farm.recording.account import Account

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def command() -> None:
    """Look into recordings (`farm record`), without changing them.

    \b
    Example:
      farm recording info monday.farmrec
    """


@command.command()
@click.argument("file", metavar="FILE", type=_FILE)
@config_option
@click.option("--json", "as_json", is_flag=True, help="One line of JSON instead.")
def info(file: Path, *, config_path: Path | None, as_json: bool) -> None:
    """Show what is inside: span, tools, kinds, counts, gaps, a torn end, damage.

    Reads all of it, and so checks every checksum. Exit code 0 when it is whole, or torn at its end
    alone; 1 when it is damaged.

    \b
    Examples:
      farm recording info monday.farmrec
      farm recording info monday.farmrec --json
    """
    from farm.recording.account import Account  # noqa: PLC0415 - numpy, not for --help
    from farm.recording.traffic import Traffic  # noqa: PLC0415

    account = Account(file, Traffic(load(config_path).config))
    if as_json:
        click.echo(json_line(account.data()))
    else:
        show_account(file, account)
    sys.exit(ExitCode.FAILURE if account.damage else ExitCode.OK)


@command.command()
@click.argument("file", metavar="FILE", type=_FILE)
@click.argument("results", metavar="RESULTS", type=click.Path(dir_okay=False, path_type=Path))
@config_option
def results(file: Path, results: Path, *, config_path: Path | None) -> None:
    """Write the answers in a recording as RESULTS, JSON lines for `farm replay --expect`.

    The recording must have been made with --results.

    \b
    Example:
      farm recording results monday.farmrec monday.jsonl
    """
    from farm.recording.results import recorded_results, write_results  # noqa: PLC0415
    from farm.recording.traffic import Traffic  # noqa: PLC0415

    found = recorded_results(file, Traffic(load(config_path).config))
    write_results(results, found)
    click.echo(f"{len(found.holes)} answers in {results}")


def show_account(file: Path, account: Account) -> None:
    """Print what is inside a recording."""
    from rich.console import Console  # noqa: PLC0415 - 0.1 s, which --help need not pay
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from farm.recording.account import TOOLS_SHOWN  # noqa: PLC0415

    console = Console()
    console.print(Text(printable(str(file)), style="bold"))
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in account.rows():
        table.add_row(Text(name), Text(printable(value)))
    console.print(table)
    tools = account.tally.tools.most_common(TOOLS_SHOWN)
    if not tools:
        return
    listed = Table(box=None, padding=(0, 2, 0, 0))
    listed.add_column("tool", overflow="fold")
    listed.add_column("messages", justify="right")
    for tool, count in tools:
        listed.add_row(Text(printable(tool)), str(count))
    console.print(listed)
    if len(account.tally.tools) > TOOLS_SHOWN:
        console.print(f"and {len(account.tally.tools) - TOOLS_SHOWN} more tools (--json has all)")
