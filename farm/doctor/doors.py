"""Where workers and monitoring come in: ports that are free or ours, secrets that nobody reads."""

from __future__ import annotations

import errno
import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psutil

from farm.config.attach import PORTS
from farm.doctor.finding import Finding, fail, ok, warn
from farm.doctor.folder import Risks, risk
from farm.doors.keyring import FARM_KEY_NAME, WORKERS_NAME, Keyring
from farm.errors import ConfigError, StateError
from farm.metrics.access import Certificate, token_of
from farm.state_dir import endpoints

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from farm.doctor.patient import Patient

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def examine(patient: Patient) -> Iterator[Finding]:
    """See the module."""
    attach = patient.config.attach
    for host, port in _local_ports(patient):
        yield _port(patient, host, port, key="dispatch")
    yield from _metrics(patient)
    if not attach.listen:
        yield ok("doors.listen", "attach.listen is empty: no worker of another machine may join")
        return
    for offset in range(PORTS):
        yield _port(patient, attach.host.strip("[]"), attach.port + offset, key="attach.listen")
    if attach.public_host:
        yield _public_host(attach.public_host)
    yield from examine_keys(patient.state_dir)


def _metrics(patient: Patient) -> Iterator[Finding]:
    """Where Prometheus asks, and whether the token and certificate can be used."""
    metrics = patient.config.metrics
    if not metrics.listen:
        return
    yield _port(patient, metrics.host, metrics.port, key="metrics.listen")
    check = "doors.metrics"
    try:
        token_of(metrics)
        if metrics.cert_file is not None and metrics.key_file is not None:
            Certificate(metrics.cert_file, metrics.key_file)
    except ConfigError as error:
        yield fail(check, str(error), "as it says; the farm won't start with it")
        return
    secrets = (path for path in (metrics.token_file, metrics.key_file) if path is not None)
    for path in secrets:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & stat.S_IROTH:
            yield warn(check, f"everyone may read {path} (mode {mode:04o})", f"chmod 600 {path}")
            return
    if not metrics.is_local and metrics.cert_file is None:
        yield warn(
            check,
            f"{metrics.listen} is asked by plain HTTP: who listens on the network sees the token",
            "give metrics.cert_file and key_file, or listen on loopback",
        )
        return
    who = "whoever has the token" if metrics.has_token else "whoever is on this machine"
    yield ok(check, f"Prometheus may ask at {metrics.listen}: {who}")


def _local_ports(patient: Patient) -> Iterator[tuple[str, int]]:
    """The TCP ports under `dispatch`; as a rule there are none, but files."""
    with suppress(StateError):  # told by the examination of the state
        told = endpoints(patient.config, patient.state_dir)
        for endpoint in (told.jobs, told.results, told.control):
            if endpoint.startswith("tcp://"):
                host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
                yield host.strip("[]"), int(port)


def _port(patient: Patient, host: str, port: int, *, key: str) -> Finding:
    check = f"doors.port_{port}"
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        _try_to_bind(host, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return _no_address(check, shown, error, key)
    else:
        return ok(check, f"{shown} is free")
    owner = _listener(port)
    if owner is not None and patient.farm_pid is not None and _is_of(owner, patient.farm_pid):
        return ok(check, f"{shown} is held by the farm that runs here")
    return fail(
        check,
        f"{shown} is taken by {_named(owner)}",
        f"end that, or set another port in {key}",
    )


def _no_address(check: str, place: str, error: OSError, key: str) -> Finding:
    cures = {
        errno.EADDRNOTAVAIL: f"give an address of this machine in {key} (`ip addr` shows them)",
        errno.EACCES: "take a port above 1023, or give the farm's user the right to lower ones",
    }
    return fail(
        check,
        f"can't listen at {place}: {error.strerror or error}",
        cures.get(error.errno or 0, f"correct {key}"),
    )


def _try_to_bind(host: str, port: int) -> None:
    """Bind as libzmq will, and let go at once.

    Raises:
        OSError: it can't be bound.
    """
    where = "::" if host == "*" and socket.has_dualstack_ipv6() else host.replace("*", "0.0.0.0")  # noqa: S104
    [family, kind, protocol, _, address], *_ = socket.getaddrinfo(
        where, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        probe.bind(address)


def _listener(port: int) -> int | None:
    """The process that listens at a port; None where we may not know."""
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr.port == port
            ):
                return connection.pid
    return None


def _is_of(pid: int, farm_pid: int) -> bool:
    """Whether a process is a farm's supervisor or one of its children."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return farm_pid in (pid, *(parent.pid for parent in process.parents()))
    return False


def _named(pid: int | None) -> str:
    if pid is None:
        return "another program (whose, only root may know)"
    with suppress(psutil.Error):
        return f"{psutil.Process(pid).name()} (pid {pid})"
    return f"a process (pid {pid})"


def _public_host(host: str) -> Finding:
    check = "doors.public_host"
    try:
        found = socket.getaddrinfo(host.strip("[]"), None)
    except OSError as error:
        return warn(
            check,
            f"{host} has no address here ({error.strerror}): invites name it",
            "correct attach.public_host, unless the other machines know it",
        )
    return ok(check, f"{host} is {found[0][4][0]}")


def examine_keys(state_dir: Path) -> Iterator[Finding]:
    """The keyring of a farm that listens: who may come in, and who may read it."""
    keyring = Keyring(state_dir)
    yield _modes(keyring.directory)
    check = "doors.keys"
    try:
        workers = keyring.workers()
        if (keyring.directory / FARM_KEY_NAME).exists():  # else asking for it would make one
            keyring.farm_key()
    except StateError as error:
        yield fail(check, str(error), "as it says; nobody is let in meanwhile")
        return
    if not workers:
        yield fail(
            check,
            "attach.listen is set, and no worker has a key: the farm won't start",
            "make one with `farm keys new NAME`, or leave attach.listen empty",
        )
        return
    number = "1 worker has a key" if len(workers) == 1 else f"{len(workers)} workers have keys"
    yield ok(check, f"{number}: {', '.join(key.name for key in workers[:5])}"
             + (" …" if len(workers) > 5 else ""))  # fmt: skip


def _modes(directory: Path) -> Finding:
    """Whether the folders of the keys are the farm's alone."""
    check = "doors.modes"
    risks = Risks(
        writers=_OTHERS_WRITE,
        written="others may add keys to {}",
        written_cure=", and look through `farm keys list` for what you don't know",
        entered="others may look into {}, where the keys are",
        foreign_cure="run the doctor as the farm's user",
    )
    for folder in (directory, directory / WORKERS_NAME):
        with suppress(OSError):  # none was made yet: told beside
            if found := risk(check, folder, risks):
                return found
    return ok(check, "nobody else may enter the folders of the keys")
