"""Starts `farm` processes. Imports next to nothing, so that the first nursery is begun at once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from farm.worker.thrift import nursery_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Cradle(NamedTuple):
    """A nursery that was just started: it waits to be told what to load."""

    process: subprocess.Popen[bytes]
    control: socket.socket  # non-blocking; a sequence of packets


def spawn(
    arguments: Sequence[str],
    *,
    inherit: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `farm` with these arguments, in a process group of its own; it dies with this thread.

    Args:
        arguments: of the command.
        inherit: a descriptor that it gets, under the same number.
        environment: where it is not this process's.

    Raises:
        OSError: the system has no room for it now.
    """
    # -P: a json.py in the folder where the farm was started must not shadow the library's
    command = [sys.executable, "-P", "-m", "farm", *arguments, "--parent", str(os.getpid())]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        process_group=0,
        env=environment,
        pass_fds=() if inherit is None else (inherit,),
    )


def spawn_nursery() -> Cradle:
    """Start a nursery.

    Raises:
        OSError: the system has no room for it now.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    number = theirs.fileno()
    try:
        with theirs:
            process = spawn(
                ["nursery", "--control-fd", str(number)],
                inherit=number,
                environment=nursery_environment(os.environ),
            )
    except OSError:
        ours.close()
        raise
    return Cradle(process, ours)
