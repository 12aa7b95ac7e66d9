"""`farm stats`: what a running farm is doing, live or once, for people and for machines."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from farm.cli.options import config_option, load, state_dir_option
from farm.control import fetch_stats
from farm.errors import ExitCode, FarmError, NoFarmError
from farm.printable import json_line, printable_data
from farm.state_dir import endpoints, locate_state_dir, own_endpoints

if TYPE_CHECKING:
    from collections.abc import Callable

HEALTHY = ("HEALTHY",)
MISSING = "MISSING"
HISTORY = "history"  # the past, which a reader of a stream has already

Shot = dict[str, Any]


@click.command()
@click.argument("folders", metavar="[DIR]...", nargs=-1, type=click.Path(path_type=Path))
@config_option
@state_dir_option
@click.option("--connect", metavar="ENDPOINT", help="Control socket of the farm to ask.")
@click.option(
    "--once", is_flag=True, help="Draw one snapshot and end (the default off a terminal)."
)
@click.option(
    "--interval",
    "--watch",
    "period_s",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    help="Look every SECONDS; off a terminal, one picture below the other.  [default: 1]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one snapshot as a line of JSON.")
@click.option(
    "--ndjson",
    is_flag=True,
    help="Print a line of JSON each --interval, until stopped; docs/stats.md has the fields.",
)
@click.option(
    "--color/--no-color",
    "has_colours",
    default=None,
    help="With or without colours.  [default: with, on a terminal without NO_COLOR]",
)
def command(
    folders: tuple[Path, ...],
    config_path: Path | None,
    state_dir: Path | None,
    connect: str | None,
    *,
    once: bool,
    period_s: float | None,
    as_json: bool,
    ndjson: bool,
    has_colours: bool | None,
) -> None:
    """Show what a running farm is doing.

    Live on a terminal: ? shows the keys, q or Ctrl-C ends it. Exit code 0 when it is healthy, 5
    when it is not (it falls behind, lacks MQTT or workers), 6 when no farm runs. With state
    directories (DIR), those farms as one: their sums and the worst state; one that does not answer
    is MISSING.

    \b
    Examples:
      farm stats                     live, once a second
      farm stats --once              one picture, for a ticket or a cron job
      farm stats --json | jq .jobs   one snapshot for machines
      farm stats --ndjson            a line each second; --interval 5: each five
      farm stats /var/lib/farm/*     all partitions of a site as one
    """
    if folders and (connect or state_dir):
        raise click.UsageError("give either DIR or --state-dir or --connect")
    if once and (ndjson or period_s is not None):
        raise click.UsageError("--once is one picture: leave --ndjson and --interval out")
    folders = _without_files(folders)
    fetch = _together(folders) if folders else _single(config_path, state_dir, connect)
    try:
        if ndjson:
            _stream(fetch, period_s or 1.0)
        elif not once and not as_json and _is_screen():
            _watch(fetch, period_s or 1.0, has_colours)
        elif period_s is not None:
            _print_forever(fetch, period_s, as_json=as_json, has_colours=has_colours)
        else:
            sys.exit(_show_once(fetch, as_json=as_json, has_colours=has_colours))
    except KeyboardInterrupt:
        sys.exit(ExitCode.OK)
    except BrokenPipeError:
        _forget_stdout()
        sys.exit(ExitCode.OK)


# ---- where snapshots come from -------------------------------------------------------------------


def _without_files(places: tuple[Path, ...]) -> tuple[Path, ...]:
    """Those that are or may be folders: of `/var/lib/farm/*` some may be plain files.

    Raises:
        UsageError: all are files.
    """
    folders = tuple(place for place in places if place.is_dir() or not place.exists())
    if places and not folders:
        raise click.UsageError(f"no folder among these: {', '.join(map(str, places))}")
    return folders


def _single(
    config_path: Path | None, state_dir: Path | None, connect: str | None
) -> Callable[[], Shot]:
    config = load(config_path, state_dir=state_dir).config
    endpoint = connect or endpoints(config, locate_state_dir(config, os.environ)).control
    return lambda: fetch_stats(endpoint)


def _together(folders: tuple[Path, ...]) -> Callable[[], Shot]:
    """Several farms, each by the sockets of its state directory."""
    from farm.telemetry.together import together  # noqa: PLC0415

    places = {str(folder): own_endpoints(folder.absolute()).control for folder in folders}

    def ask(endpoint: str) -> Shot | FarmError:
        try:
            return fetch_stats(endpoint)
        except FarmError as error:  # of another version, say: that must not hide the others
            return error

    def fetch() -> Shot:
        with ThreadPoolExecutor(len(places)) as pool:  # one that is silent is waited for seconds
            told = dict(zip(places, pool.map(ask, places.values()), strict=True))
        shots = {
            place: None if isinstance(each, FarmError) else each for place, each in told.items()
        }
        reasons = {
            place: str(each)
            for place, each in told.items()
            if isinstance(each, FarmError) and not isinstance(each, NoFarmError)
        }
        if not any(shots.values()):
            why = "; ".join(f"{place}: {reason}" for place, reason in reasons.items())
            nobody = f"no farm answers in any of the {len(shots)} folders"
            raise NoFarmError(f"{nobody} ({why})" if why else nobody)
        return together(shots, reasons)

    return fetch


# ---- where they go -------------------------------------------------------------------------------


def _is_screen() -> bool:
    """Whether there is a terminal whose cursor can be moved."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def _may_colour(wish: bool | None) -> bool:
    """Whether styles may be colours; see no-color.org."""
    if wish is not None:
        return wish
    return _is_screen() and not os.environ.get("NO_COLOR")


def _watch(fetch: Callable[[], Shot], period_s: float, has_colours: bool | None) -> NoReturn:
    """Live, until a key or a signal ends it; the signal is passed on, so that a shell sees it."""
    from farm.cli.terminal import Terminal, has_unicode  # noqa: PLC0415 - not needed elsewhere
    from farm.cli.watching import Watching  # noqa: PLC0415

    first = fetch()
    terminal = Terminal(sys.stdout.fileno(), sys.stdin.fileno() if sys.stdin.isatty() else None)
    ended_by = Watching(
        fetch,
        first,
        terminal,
        period_s=period_s,
        has_colours=_may_colour(has_colours),
        has_unicode=has_unicode(),
    ).run()
    if ended_by in (0, signal.SIGINT):
        sys.exit(ExitCode.OK)
    signal.signal(ended_by, signal.SIG_DFL)
    os.kill(os.getpid(), ended_by)
    sys.exit(128 + ended_by)  # it was blocked


def _show_once(
    fetch: Callable[[], Shot], *, as_json: bool, has_colours: bool | None = None
) -> ExitCode:
    shot = fetch()
    click.echo(json_line(shot) if as_json else _picture(shot, has_colours), color=True)
    sys.stdout.flush()
    return ExitCode.OK if shot["state"] in HEALTHY else ExitCode.UNHEALTHY


def _picture(shot: Shot, has_colours: bool | None) -> str:
    from farm.cli.terminal import has_unicode  # noqa: PLC0415 - not needed for JSON
    from farm.cli.watching import in_ascii  # noqa: PLC0415
    from farm.telemetry.lines import ASCII, UNICODE  # noqa: PLC0415
    from farm.telemetry.paint import paint  # noqa: PLC0415
    from farm.telemetry.view import whole  # noqa: PLC0415

    width = shutil.get_terminal_size().columns
    shot, glyphs = printable_data(shot), UNICODE
    if not has_unicode():
        shot, glyphs = in_ascii(shot), ASCII
    may_colour = _may_colour(has_colours)
    has_styles = may_colour or _is_screen()
    return "\n".join(
        paint(each, has_styles=has_styles, has_colours=may_colour)
        for each in whole(shot, width, glyphs)
    )


def _print_forever(
    fetch: Callable[[], Shot], period_s: float, *, as_json: bool, has_colours: bool | None
) -> NoReturn:
    """One picture or line of JSON after the other, for pipes and files."""
    _show_once(fetch, as_json=as_json, has_colours=has_colours)  # no farm at all is an error
    while True:
        time.sleep(period_s)
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        if not as_json:
            click.echo(f"\n{now}")
        try:
            _show_once(fetch, as_json=as_json, has_colours=has_colours)
        except NoFarmError:  # it may be restarting
            # not among the JSON, which a program reads
            click.echo(f"{now} the farm does not answer", err=as_json)


def _stream(fetch: Callable[[], Shot], period_s: float) -> NoReturn:
    """A line of JSON each period; while no farm answers, one that says so."""
    is_first = True
    due_s = time.monotonic()
    while True:
        try:
            shot = fetch()
        except NoFarmError as error:
            if is_first:
                raise
            shot = {"taken_utc_s": time.time(), "state": MISSING, "problems": [str(error)]}
        is_first = False
        told = {key: value for key, value in shot.items() if key != HISTORY}
        click.echo(json_line(told))
        sys.stdout.flush()
        due_s = max(due_s + period_s, time.monotonic())
        time.sleep(max(0.0, due_s - time.monotonic()))


def _forget_stdout() -> None:
    """Who read has gone: at the end nothing must be flushed to him."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
