"""`farm logs`: how much a running farm writes into its log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from farm import wire
from farm.broker.log_levels import ALL, LEVELS, MOST_S
from farm.cli import known
from farm.cli.duration import Duration, told
from farm.cli.group import Group
from farm.cli.operator import TIMEOUT_S, place
from farm.cli.options import config_option, state_dir_option
from farm.control import ask
from farm.errors import FarmError
from farm.printable import json_line, printable

if TYPE_CHECKING:
    from pathlib import Path


@click.group(cls=Group)
def command() -> None:
    """Have a running farm log more, or less, for a while.

    The log itself goes to standard output of `farm start`: to the journal of systemd, or where your
    supervisor puts it.

    \b
    Examples:
      farm logs level
      farm logs level DEBUG --for 10m
    """


@command.command()
@config_option
@state_dir_option
@click.argument(
    "level", metavar="[LEVEL]", required=False, type=click.Choice(LEVELS, case_sensitive=False)
)
@click.option(
    "--for",
    "for_s",
    metavar="DURATION",
    type=Duration(MOST_S),
    default="10m",
    show_default=True,
    help="How long: 90s, 10m, 2h; at most 1d. Then it is as configured again.",
)
@click.option(
    "--part",
    metavar="PART",
    default=ALL,
    show_default=True,
    shell_complete=known.parts,
    help="Who: all, broker, supervisor, fleet, workers, or one as `process` in its lines says, "
    'such as "worker 3".',
)
@click.option("--json", "as_json", is_flag=True, help="Print who logs at which level as JSON.")
def level(
    config_path: Path | None,
    state_dir: Path | None,
    level: str | None,
    for_s: float,
    part: str,
    *,
    as_json: bool,
) -> None:
    """Log at LEVEL for a while; without LEVEL, tell who logs at which.

    LEVEL is DEBUG, INFO, WARNING or ERROR. It goes back by itself, and when the broker process is
    started anew. At DEBUG there is a line for each message and hole; INFO has none of these.
    log.level in the configuration says what is usual. Workers on other machines are meant, too;
    their lines are in their own logs.

    \b
    Examples:
      farm logs level
      farm logs level DEBUG --for 10m
      farm logs level debug --part "worker 3" --for 90s
      farm logs level WARNING --part workers --for 1h
    """
    for option, name in (("--part", "part"), ("--for", "for_s")):
        source = click.get_current_context().get_parameter_source(name)
        if not level and source is not ParameterSource.DEFAULT:
            raise click.UsageError(f"{option} is for a new level: give LEVEL, too")
    _, control = place(config_path, state_dir)
    reply = ask(control, wire.LogLevel(level or "", part, for_s), timeout_s=TIMEOUT_S)
    if not isinstance(reply, wire.LogLevels):
        raise FarmError(f"the farm answered with {type(reply).__name__}")
    if as_json:
        click.echo(json_line(_data(reply)))
        return
    for row in _data(reply)["changes"]:
        left = told(row["left_s"])
        click.echo(f"{printable(row['part'])}: {row['level']}, for {left} more")
    rest = "all else" if reply.changes else "all"
    click.echo(f"{rest}: {reply.configured}, as configured")


def _data(reply: wire.LogLevels) -> dict[str, Any]:
    changes = [
        {"part": part, "level": found, "left_s": round(left_s, 1)}
        for part, (found, left_s) in reply.changes.items()
    ]
    return {"configured": reply.configured, "changes": changes}
