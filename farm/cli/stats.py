"""`farm stats`: what a running farm is doing, live or once."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

import click

from farm.cli.options import config_option, load, state_dir_option
from farm.control import fetch_stats
from farm.errors import ExitCode, NoFarmError
from farm.printable import json_line
from farm.state_dir import endpoints, locate_state_dir

if TYPE_CHECKING:
    from pathlib import Path

HEALTHY = ("HEALTHY",)


@click.command()
@config_option
@state_dir_option
@click.option("--connect", metavar="ENDPOINT", help="Control socket of the farm to ask.")
@click.option(
    "--once", is_flag=True, help="Draw one snapshot and end (the default off a terminal)."
)
@click.option(
    "--watch",
    "period_s",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    help="Draw every SECONDS; off a terminal, one below the other.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the snapshot as one line of JSON.")
def command(
    config_path: Path | None,
    state_dir: Path | None,
    connect: str | None,
    *,
    once: bool,
    period_s: float | None,
    as_json: bool,
) -> None:
    """Show what a running farm is doing.

    Live on a terminal, until Ctrl-C. Exit code 0 when it is healthy, 5 when it is not (it falls
    behind, lacks MQTT or workers), 6 when no farm runs.

    \b
    Examples:
      farm stats                     live, once a second
      farm stats --once              one picture, for a ticket or a cron job
      farm stats --json | jq .jobs   for machines; --watch 5 --json gives a line every 5 s
    """
    config = load(config_path, state_dir=state_dir).config
    endpoint = connect or endpoints(config, locate_state_dir(config, os.environ)).control
    live = not once and (period_s is not None or (sys.stdout.isatty() and not as_json))
    try:
        if live:
            _watch(endpoint, period_s or 1.0, as_json=as_json)
        else:
            sys.exit(_show_once(endpoint, as_json=as_json))
    except KeyboardInterrupt:
        sys.exit(ExitCode.OK)


def _show_once(endpoint: str, *, as_json: bool) -> ExitCode:
    shot = fetch_stats(endpoint)
    if as_json:
        click.echo(json_line(shot))
    else:
        from rich.console import Console  # noqa: PLC0415 - not needed for --json

        from farm.telemetry.view import render  # noqa: PLC0415

        console = Console()
        console.print(render(shot, console.width))
    return _exit_code(shot)


def _watch(endpoint: str, period_s: float, *, as_json: bool) -> None:
    if as_json or not sys.stdout.isatty():
        _print_forever(endpoint, period_s, as_json=as_json)
    from rich.console import Console, Group  # noqa: PLC0415 - not needed for --json
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from farm.telemetry.view import render  # noqa: PLC0415

    console = Console()
    picture = render(fetch_stats(endpoint), console.width)
    with Live(picture, console=console, auto_refresh=False, screen=True) as live:
        while True:
            time.sleep(period_s)
            try:
                picture = render(fetch_stats(endpoint), console.width)
                live.update(picture, refresh=True)
            except NoFarmError:  # it may be restarting: keep the last picture and say so
                gone = Text("the farm does not answer; last seen as below", style="bold red")
                live.update(Group(gone, picture), refresh=True)


def _print_forever(endpoint: str, period_s: float, *, as_json: bool) -> NoReturn:
    """One picture or line of JSON after the other, for pipes and files."""
    _show_once(endpoint, as_json=as_json)  # no farm at all is an error, as for --once
    while True:
        time.sleep(period_s)
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        if not as_json:
            click.echo(f"\n{now}")
        try:
            _show_once(endpoint, as_json=as_json)
        except NoFarmError:  # it may be restarting
            # not among the JSON, which a program reads
            click.echo(f"{now} the farm does not answer", err=as_json)


def _exit_code(shot: dict[str, Any]) -> ExitCode:
    return ExitCode.OK if shot["state"] in HEALTHY else ExitCode.UNHEALTHY
