"""`farm worker`: one worker, by hand or under the supervisor."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from farm import log
from farm.cli.options import config_option, load, state_dir_option
from farm.state_dir import endpoints, resolve_state_dir
from farm.supervisor.memory import offer_to_kernel
from farm.supervisor.parent import die_with_parent

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@config_option
@state_dir_option
@click.option("--connect", metavar="ENDPOINT", help="Control socket of the farm to join.")
@click.option("--name", default="", help="Name in logs and stats.  [default: pid-PID]")
@click.option("--parent", type=int, hidden=True, help="Die with this process.")
def command(
    config_path: Path | None,
    state_dir: Path | None,
    connect: str | None,
    name: str,
    parent: int | None,
) -> None:
    """Run one worker, under the supervisor or by hand.

    It joins the farm of the state directory, learns everything else from it, and stays until
    SIGTERM: then it finishes its job and leaves. It waits for a farm that is not there yet.

    \b
    Examples:
      farm worker                          join the farm of the default state directory
      farm worker --connect tcp://127.0.0.1:7003 --name bench-7
    """
    if parent is not None and not die_with_parent(parent):
        sys.exit(1)
    config = load(config_path, state_dir=state_dir).config
    name = name or f"pid-{os.getpid()}"
    log.set_up(level=config.log.level, style=config.log.format, process=f"worker {name}")
    if connect and not connect.startswith(("tcp://", "ipc://")):
        raise click.BadParameter(
            f"{connect!r} is neither tcp://HOST:PORT nor ipc:///PATH", param_hint="--connect"
        )
    endpoint = connect or endpoints(config, resolve_state_dir(config, os.environ)).control
    if parent is not None:
        offer_to_kernel()
    from farm.worker.process import run  # noqa: PLC0415 - numpy and the models, not for --help

    sys.exit(run(name=name, control_endpoint=endpoint, by_hand=parent is None))
