"""`farm stats`: what a running farm is doing, live or once."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click

from farm.cli.options import config_option, load, state_dir_option
from farm.control import fetch_stats
from farm.errors import ExitCode, NoFarmError
from farm.printable import json_line
from farm.state_dir import endpoints, locate_state_dir, own_endpoints

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

HEALTHY = ("HEALTHY",)


@click.command()
@click.argument(
    "folders", metavar="[DIR]...", nargs=-1, type=click.Path(file_okay=False, path_type=Path)
)
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
    help="Draw every SECONDS; off a terminal, one below the other.  [default: 1]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the snapshot as one line of JSON.")
def command(
    folders: tuple[Path, ...],
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
    behind, lacks MQTT or workers), 6 when no farm runs. With state directories (DIR), those farms
    as one: their sums and the worst state; one that does not answer is MISSING.

    \b
    Examples:
      farm stats                     live, once a second
      farm stats --once              one picture, for a ticket or a cron job
      farm stats --json | jq .jobs   for machines; with --watch 5, a line each 5 s
      farm stats /var/lib/farm/*     all partitions of a site as one
    """
    if folders and (connect or state_dir):
        raise click.UsageError("give either DIR or --state-dir or --connect")
    source = _together(folders) if folders else _single(config_path, state_dir, connect)
    live = not once and (period_s is not None or (sys.stdout.isatty() and not as_json))
    try:
        if live:
            _watch(source, period_s or 1.0, as_json=as_json)
        else:
            sys.exit(_show_once(source, as_json=as_json))
    except KeyboardInterrupt:
        sys.exit(ExitCode.OK)


class _Source(NamedTuple):
    """Where snapshots come from, and how they are drawn."""

    fetch: Callable[[], dict[str, Any]]
    draw: Callable[[dict[str, Any], int], RenderableType]


def _single(config_path: Path | None, state_dir: Path | None, connect: str | None) -> _Source:
    from farm.telemetry.view import render  # noqa: PLC0415

    config = load(config_path, state_dir=state_dir).config
    endpoint = connect or endpoints(config, locate_state_dir(config, os.environ)).control
    return _Source(lambda: fetch_stats(endpoint), render)


def _together(folders: tuple[Path, ...]) -> _Source:
    """Several farms, each by the sockets of its state directory."""
    from farm.telemetry.together import render, together  # noqa: PLC0415

    places = {str(folder): own_endpoints(folder.absolute()).control for folder in folders}

    def ask(endpoint: str) -> dict[str, Any] | None:
        with contextlib.suppress(NoFarmError):
            return fetch_stats(endpoint)
        return None

    def fetch() -> dict[str, Any]:
        with ThreadPoolExecutor(len(places)) as pool:  # one that is silent is waited for seconds
            shots = dict(zip(places, pool.map(ask, places.values()), strict=True))
        if not any(shots.values()):
            raise NoFarmError(f"no farm answers in any of the {len(shots)} folders")
        return together(shots)

    return _Source(fetch, render)


def _show_once(source: _Source, *, as_json: bool) -> ExitCode:
    shot = source.fetch()
    if as_json:
        click.echo(json_line(shot))
    else:
        from rich.console import Console  # noqa: PLC0415 - not needed for --json

        console = Console()
        console.print(source.draw(shot, console.width))
    return _exit_code(shot)


def _watch(source: _Source, period_s: float, *, as_json: bool) -> None:
    if as_json or not sys.stdout.isatty():
        _print_forever(source, period_s, as_json=as_json)
    from rich.console import Console, Group  # noqa: PLC0415 - not needed for --json
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    picture = source.draw(source.fetch(), console.width)
    with Live(picture, console=console, auto_refresh=False, screen=True) as live:
        while True:
            time.sleep(period_s)
            try:
                picture = source.draw(source.fetch(), console.width)
                live.update(picture, refresh=True)
            except NoFarmError:  # it may be restarting: keep the last picture and say so
                gone = Text("the farm does not answer; last seen as below", style="bold red")
                live.update(Group(gone, picture), refresh=True)


def _print_forever(source: _Source, period_s: float, *, as_json: bool) -> NoReturn:
    """One picture or line of JSON after the other, for pipes and files."""
    _show_once(source, as_json=as_json)  # no farm at all is an error, as for --once
    while True:
        time.sleep(period_s)
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        if not as_json:
            click.echo(f"\n{now}")
        try:
            _show_once(source, as_json=as_json)
        except NoFarmError:  # it may be restarting
            # not among the JSON, which a program reads
            click.echo(f"{now} the farm does not answer", err=as_json)


def _exit_code(shot: dict[str, Any]) -> ExitCode:
    return ExitCode.OK if shot["state"] in HEALTHY else ExitCode.UNHEALTHY
