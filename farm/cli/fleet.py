"""`farm fleet`: the process that keeps workers on Ray. The supervisor's own; not for hands."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from farm import log
from farm.cli.options import config_option, load, state_dir_option
from farm.state_dir import endpoints, resolve_state_dir
from farm.supervisor.parent import die_with_parent

if TYPE_CHECKING:
    from pathlib import Path


@click.command(hidden=True)
@config_option
@state_dir_option
@click.option("--parent", type=int, required=True, help="Die with this process, the supervisor.")
def command(config_path: Path | None, state_dir: Path | None, parent: int) -> None:
    """Keep as many workers on a Ray cluster as the broker says.

    `farm start --launch ray` runs it.
    """
    if not die_with_parent(parent):
        sys.exit(1)
    config = load(config_path, state_dir=state_dir).config
    log.set_up(level=config.log.level, style=config.log.format, process="fleet")
    from farm.fleet.process import FleetProcess  # noqa: PLC0415 - Ray, not for --help

    control = endpoints(config, resolve_state_dir(config, os.environ)).control
    sys.exit(FleetProcess(config, control_endpoint=control).run())
