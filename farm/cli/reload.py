"""`farm reload`: SIGHUP for a running farm."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import click

from farm.cli.operator import place
from farm.cli.options import config_option, state_dir_option
from farm.errors import FarmError
from farm.state_dir import holder

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@config_option
@state_dir_option
def command(config_path: Path | None, state_dir: Path | None) -> None:
    """Have a running farm read its configuration again and replace its workers, as SIGHUP does.

    One worker after the other gets a successor, which must come up and answer a hole that was
    answered before; then the old one leaves. Where a successor fails, all is taken back. Workers on
    other machines come last: one is started anew, and the others only when it came up. Where it
    does not, the others stay as they are; with no worker here that has come up, all is taken
    back. That takes as long as a hole and a model may take (dispatch.job_timeout_s,
    workers.ready_timeout_s).

    Model, its settings, the number of workers and the
    section `supervisor` are taken over; for the rest the log says that it needs a restart. A wrong
    configuration is refused, in the farm's log. A broker that runs alone (`farm broker`) takes no
    notice.

    \b
    Example:
      farm config check --config etc/farm.yaml && farm reload
    """
    directory, _ = place(config_path, state_dir)
    pid = holder(directory)
    try:
        os.kill(pid, signal.SIGHUP)
    except (ProcessLookupError, PermissionError) as error:
        raise FarmError(
            f"the farm (pid {pid}) can't be told: {error.strerror}. Do it as the farm's user"
        ) from error
    click.echo(f"told the farm (pid {pid}) to reload; its log says how that ends")
