"""TCP ports on loopback for servers that are started here, none of them anybody else's.

Owns which port is next, not the servers. The kernel's choice (binding to port 0) won't do: it is
from the range that outgoing connections get their ports from. Such a port may be gone before the
server binds it, or while a broker that keeps its port is restarted: a connection is enough. So ours
lie below that range, and each process has a block of them to itself.
"""

from __future__ import annotations

import functools
import itertools
import random
import socket
from typing import TYPE_CHECKING

from farm.errors import MqttError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK = "127.0.0.1"
FIRST_PORT = 10_000
BLOCK_PORTS = 100  # one comes again only after so many others
BLOCKS = 220  # up to 31 999; Linux gives outgoing connections 32 768 and more


def free_port() -> int:
    """A TCP port on loopback that nobody listens on, and that no other process gets from here.

    Raises:
        MqttError: all are taken.
    """
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of `count` such ports in a row.

    Raises:
        MqttError: no such row is free.
    """
    _, ports = _block()
    row: list[int] = []
    for port in itertools.islice(ports, 2 * BLOCK_PORTS):
        if not _is_free(port):
            row = []
            continue
        follows = bool(row) and port == row[-1] + 1  # not where the block begins again
        row = [*row, port] if follows else [port]
        if len(row) == count:
            return row[0]
    raise MqttError(f"no row of {count} free TCP ports on {LOOPBACK}: {BLOCK_PORTS} were tried")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:  # a stranger has it
            return False
    return True


@functools.cache
def _block() -> tuple[socket.socket, Iterator[int]]:
    """What holds the block of this process, and its ports in turn, over and over.

    Held by an abstract socket name, which the kernel gives to one process and takes back at its
    end, however that comes. (A child that is forked after this shares the block.)
    """
    for number in random.sample(range(BLOCKS), BLOCKS):
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            holder.bind(f"\0farm-ports-{number}")
        except OSError:  # another process has it
            holder.close()
            continue
        first = FIRST_PORT + number * BLOCK_PORTS
        return holder, itertools.cycle(range(first, first + BLOCK_PORTS))
    raise MqttError(f"all {BLOCKS} blocks of TCP ports are held by other processes")
