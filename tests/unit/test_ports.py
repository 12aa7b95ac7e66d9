"""Ports for servers: nobody else's, neither now nor while a broker is restarted."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from farm.errors import MqttError
from farm.simulation import ports
from farm.simulation.ports import BLOCK_PORTS, LOOPBACK, free_port, free_ports

TELLS_ITS_PORTS = f"""
from farm.simulation.ports import free_port
print(*(free_port() for _ in range({BLOCK_PORTS})), flush=True)
input()
"""


def test_two_processes_at_once_never_get_the_same_port():
    # prevents: two tests whose brokers are started on one port, since each had found it free
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TELLS_ITS_PORTS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    given = [free_port() for _ in range(BLOCK_PORTS)]
    for process in started:
        assert process.stdout is not None
        given += map(int, process.stdout.readline().split())
    for process in started:
        process.communicate("\n")
    assert len(given) > 3.5 * BLOCK_PORTS  # some may be taken by strangers, and others come twice
    assert len({port // BLOCK_PORTS for port in given}) == 4


def test_none_is_of_the_range_that_connections_get_theirs_from():
    # prevents: a broker that can't bind its port again, since a connection has got it meanwhile
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if low < ports.FIRST_PORT + ports.BLOCKS * BLOCK_PORTS:
        pytest.skip("this machine gives them out from further below")
    assert {free_port() < low for _ in range(BLOCK_PORTS)} == {True}


def test_one_that_somebody_listens_on_is_passed_over():
    with socket.create_server((LOOPBACK, free_port())) as taken:
        assert taken.getsockname()[1] not in {free_port() for _ in range(2 * BLOCK_PORTS)}


def test_several_in_a_row_are_all_free():
    # prevents: a farm on three ports of which one is another's
    with socket.create_server((LOOPBACK, free_port())) as taken:
        for _ in range(BLOCK_PORTS):
            first = free_ports(3)
            assert first // BLOCK_PORTS == (first + 2) // BLOCK_PORTS
            assert taken.getsockname()[1] not in range(first, first + 3)


def test_that_all_are_taken_is_said(monkeypatch):
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(ports, "_block", lambda: (None, itertools.repeat(port)))
        with pytest.raises(MqttError, match="no row of 1 free"):
            free_port()
