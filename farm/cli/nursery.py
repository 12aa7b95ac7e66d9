"""`farm nursery`: the process that workers are forked from. The supervisor's own; not for hands."""

from __future__ import annotations

import os
import socket
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
@click.option("--control-fd", type=int, required=True, help="The socket to the supervisor.")
@click.option("--parent", type=int, required=True, help="Die with this process, the supervisor.")
def command(config_path: Path | None, state_dir: Path | None, control_fd: int, parent: int) -> None:
    """Load the model once, and fork workers from it on the supervisor's request.

    `farm start` runs it; `workers.launch: exec` does without.
    """
    if not die_with_parent(parent):
        sys.exit(1)
    config = load(config_path, state_dir=state_dir).config
    log.set_up(level=config.log.level, style=config.log.format, process="nursery")
    from farm.worker.nursery import run  # noqa: PLC0415 - numpy and the models, not for --help

    code = run(
        config,
        control=socket.socket(fileno=control_fd),
        control_endpoint=endpoints(config, resolve_state_dir(config, os.environ)).control,
        supervisor_pid=parent,
    )
    sys.exit(code)
