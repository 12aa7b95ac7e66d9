"""`farm nursery`: the process that workers are forked from. The supervisor's own; not for hands."""

from __future__ import annotations

import socket
import sys

import click

from farm.supervisor.parent import die_with_parent


@click.command(hidden=True)
@click.option("--control-fd", type=int, required=True, help="The socket to the supervisor.")
@click.option("--parent", type=int, required=True, help="Die with this process, the supervisor.")
def command(control_fd: int, parent: int) -> None:
    """Load the model once, and fork workers from it on the supervisor's request.

    `farm start` runs it; `workers.launch: exec` does without.
    """
    if not die_with_parent(parent):
        sys.exit(1)
    from farm.worker.nursery import run  # noqa: PLC0415 - numpy and the models, not for --help
    from farm.worker.thrift import leave  # noqa: PLC0415

    leave(run(control=socket.socket(fileno=control_fd), supervisor_pid=parent))
