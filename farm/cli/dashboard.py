"""`farm dashboard`: the page, in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import TYPE_CHECKING

import click

from farm import log
from farm.cli.options import PAGE_LISTEN, config_option, load, state_dir_option
from farm.errors import FarmError
from farm.supervisor.parent import die_with_parent

if TYPE_CHECKING:
    from pathlib import Path

    from farm.config import Config


@click.command()
@config_option
@state_dir_option
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help=f"Where to serve it.  [default: page.listen of the configuration, else {PAGE_LISTEN}]",
)
@click.option("--parent", type=int, hidden=True, help="Die with this process.")
def command(
    *,
    config_path: Path | None,
    state_dir: Path | None,
    listen: str | None,
    parent: int | None,
) -> None:
    """Show what happens in a browser: holes with their traces, tools, dead letters, the farm.

    Only reads: the journal by itself, and once a second what `farm stats` shows. Beside a running
    farm, or over the journal of one that has stopped. `farm start --page` runs it as well.

    \b
    Examples:
      farm dashboard                          then open http://127.0.0.1:8780/
      farm dashboard --state-dir /var/lib/farm --listen 127.0.0.1:9000
    """
    if parent is not None and not die_with_parent(parent):
        sys.exit(1)
    from farm.references import PAGE_NEEDS  # noqa: PLC0415 - NumPy, not for --help
    from farm.state_dir import endpoints, locate_state_dir  # noqa: PLC0415 - likewise

    if any(importlib.util.find_spec(name) is None for name in PAGE_NEEDS):
        raise FarmError("the page needs starlette and uvicorn: pip install 'farm[page]'")
    config, config_file = _config(config_path, state_dir, listen)
    directory = locate_state_dir(config, os.environ)
    if not directory.is_dir():
        raise FarmError(
            f"there is no {directory}: name the farm's folder with --state-dir or --config"
        )
    log.set_up(level=config.log.level, style=config.log.format, process="page")
    from farm.page.process import PageProcess  # noqa: PLC0415 - an extra, and not for --help

    control = endpoints(config, directory).control
    page = PageProcess(
        config, state_dir=directory, control_endpoint=control, config_file=config_file
    )
    if parent is None:
        click.echo(f"the page of {directory}: {page.address}", err=True)
    sys.exit(page.run())


def _config(
    config_path: Path | None, state_dir: Path | None, listen: str | None
) -> tuple[Config, Path | None]:
    """As given; without a file, that of the farm that runs or ran in the state directory."""
    from farm.state_dir import locate_state_dir  # noqa: PLC0415 - pydantic, not for --help
    from farm.supervisor.in_force import COPY_NAME  # noqa: PLC0415 - likewise

    found = load(config_path, state_dir=state_dir).config
    copy = locate_state_dir(found, os.environ) / COPY_NAME
    if config_path is None and "FARM_CONFIG" not in os.environ and copy.is_file():
        config_path = copy
        found = load(copy, state_dir=state_dir).config
    given = {"page.listen": listen or found.page.listen or PAGE_LISTEN}
    loaded = load(config_path, state_dir=state_dir, overrides=given)
    return loaded.config, loaded.path
