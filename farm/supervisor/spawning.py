"""Starts `farm` processes. Imports next to nothing, so that the first nursery is begun at once."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from farm.worker.thrift import nursery_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from farm.config import Config


@dataclass(slots=True)
class Cradle:
    """A nursery that was just started: it waits to be told what to load, once."""

    process: subprocess.Popen[bytes]
    control: socket.socket  # non-blocking; a sequence of packets
    told: dict[str, Any] | None = None

    def tell(self, config: Config, control_endpoint: str) -> None:
        """Have it load for a configuration.

        Args:
            config: in force.
            control_endpoint: of the broker, where workers join.
        """
        from farm import wire  # noqa: PLC0415 - the first nursery is started before all this
        from farm.config.show import worker_view  # noqa: PLC0415

        self.told = worker_view(config)
        with contextlib.suppress(OSError):  # it has ended: whoever reaps it will notice
            self.control.send(wire.encode(wire.Load(self.told, control_endpoint)))

    def is_told(self, config: Config) -> bool:
        """Whether it loads for this configuration."""
        from farm.config.show import worker_view  # noqa: PLC0415

        return self.told == worker_view(config)


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
