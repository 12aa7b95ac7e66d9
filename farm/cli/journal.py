"""`farm journal`: whether the journal is whole."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from farm.cli.group import Group
from farm.cli.operator import place
from farm.cli.options import config_option, state_dir_option
from farm.cli.progress import counting_progress
from farm.errors import ExitCode
from farm.journal.reader import JournalReader
from farm.printable import printable

if TYPE_CHECKING:
    from pathlib import Path


@click.group(cls=Group)
def command() -> None:
    """Look after the journal, where the farm keeps what it must not lose.

    \b
    Example:
      farm journal check
    """


@command.command()
@config_option
@state_dir_option
def check(config_path: Path | None, state_dir: Path | None) -> None:
    """Look for damage: the database's own check, and the checksum of every message.

    Reads alone; also beside a running farm. Exit code 0 when all is whole, 10 when it is not.

    \b
    Examples:
      farm journal check
      farm journal check --state-dir /var/lib/farm
    """
    directory, _ = place(config_path, state_dir)
    with JournalReader(directory) as journal:
        with counting_progress("messages", journal.count_messages()) as progress:
            checked = journal.check(progress)
        click.echo(
            f"{journal.directory}: {checked.messages} messages "
            f"({checked.message_bytes / 1e6:.1f} MB), {checked.holes} holes, "
            f"{checked.open_holes} of them open, {checked.dead_letters} dead letters"
        )
    if not checked.damages:
        click.echo("all whole")
        return
    for sentence in checked.told:
        click.echo(f"  {printable(sentence)}", err=True)
    click.echo(
        f"{checked.damages} damages. A hole whose messages are damaged becomes a dead letter when "
        "it is computed; what has ended is only history. If the database itself is damaged, move "
        f"{journal.directory} away: what is open in it is lost.",
        err=True,
    )
    sys.exit(ExitCode.JOURNAL)
