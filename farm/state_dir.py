"""The state directory: where the sockets, the lock and the MQTT client id of one farm live.

Owns its place, its lock and the names in it. One farm a directory, held by flock(2), which the
kernel releases with the last process that holds it, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from farm.config.dispatch import MAX_SOCKET_PATH_BYTES
from farm.errors import NoFarmError, StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farm.config import Config

LOCK_NAME = "farm.lock"
CLIENT_ID_NAME = "client_id"
SOCKET_NAMES = ("jobs", "results", "control")
_PRIVATE = 0o700  # the sockets in it are open to whoever may enter
_CLIENT_ID = re.compile(r"farm-[0-9a-f]{8}")
_OWN_DIRECTORY = "choose another with --state-dir or FARM_STATE_DIR"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the sockets of one farm are, as ZeroMQ addresses."""

    jobs: str  # PUSH, from the broker to the workers
    results: str  # PULL, from the workers to the broker
    control: str  # ROUTER, for `farm stats` and workers that join


class StateLock:
    """The state directory held for this process; a context manager."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Let another farm have the directory. Doing it twice does no harm."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def resolve_state_dir(config: Config, environ: Mapping[str, str]) -> Path:
    """The state directory, made if it is missing (mode 0700), as an absolute path.

    It is `state_dir` of the configuration (which includes --state-dir and FARM_STATE_DIR), else
    $XDG_STATE_HOME/farm, else ~/.local/state/farm (XDG Base Directory Specification 0.8).

    Raises:
        StateError: it can't be made or used, or strangers may write into it.
    """
    path = locate_state_dir(config, environ)
    try:
        path.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        found = path.stat()
    except FileExistsError:
        raise StateError(f"{path} is not a directory: {_OWN_DIRECTORY}") from None
    except OSError as error:
        raise StateError(f"{path} can't be made: {error.strerror}: {_OWN_DIRECTORY}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise StateError(f"{path} is not writable for this user: {_OWN_DIRECTORY}")
    if found.st_mode & stat.S_IWOTH:
        raise StateError(f"{path} is writable for everyone: chmod 700 it, or {_OWN_DIRECTORY}")
    return path


def locate_state_dir(config: Config, environ: Mapping[str, str]) -> Path:
    """Where the state directory is or would be; makes nothing."""
    if config.state_dir is not None:
        return config.state_dir.absolute()
    base = environ.get("XDG_STATE_HOME", "")
    if base.startswith("/"):  # the specification: relative ones are to be ignored
        return Path(base) / "farm"
    home = environ.get("HOME", "")
    if not home.startswith("/"):
        raise StateError(f"there is no home directory for the state: {_OWN_DIRECTORY}")
    return Path(home) / ".local" / "state" / "farm"


def lock(state_dir: Path) -> StateLock:
    """Hold the state directory for this farm, until released or until the process ends.

    Raises:
        StateError: another farm holds it; the message has its pid.
    """
    path = state_dir / LOCK_NAME
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise StateError(f"{path} can't be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StateError(
            f"another farm (pid {holder}) runs in {state_dir}:"
            " stop it or give this one its own --state-dir"
        ) from None
    except OSError as error:
        os.close(descriptor)
        raise StateError(
            f"{path} can't be locked: {error.strerror}: put the state on a local disk"
        ) from error
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    except OSError as error:
        os.close(descriptor)
        raise StateError(
            f"{path} can't be written: {error.strerror}: make room, or {_OWN_DIRECTORY}"
        ) from error
    return StateLock(descriptor)


def holder(state_dir: Path) -> int:
    """The pid of the farm that runs in a state directory.

    Raises:
        NoFarmError: none does.
    """
    try:
        descriptor = os.open(state_dir / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(os.read(descriptor, 20))
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ValueError):  # no farm ever ran here, or it is just starting
        pass
    except OSError as error:
        raise StateError(
            f"{state_dir} can't be read ({error.strerror}): do it as the farm's user"
        ) from error
    raise NoFarmError(
        f"no farm runs in {state_dir}: start one with `farm start`, or name its place with "
        "--state-dir or --config"
    )


def endpoints(config: Config, state_dir: Path) -> Endpoints:
    """The addresses of the sockets: as configured, else in the state directory.

    Raises:
        StateError: a path in the state directory is too long for a socket.
    """
    dispatch = config.dispatch
    configured = (dispatch.jobs_endpoint, dispatch.results_endpoint, dispatch.control_endpoint)
    jobs, results, control = (
        given or _ipc(state_dir / f"{name}.sock")
        for given, name in zip(configured, SOCKET_NAMES, strict=True)
    )
    return Endpoints(jobs, results, control)


def own_endpoints(state_dir: Path) -> Endpoints:
    """The addresses of the sockets of a farm whose configuration names none.

    Raises:
        StateError: a path in the state directory is too long for a socket.
    """
    jobs, results, control = (_ipc(state_dir / f"{name}.sock") for name in SOCKET_NAMES)
    return Endpoints(jobs, results, control)


def client_id(state_dir: Path) -> str:
    """The name of this farm's MQTT session, made on first use and kept: farm- and 8 hex digits.

    Call it holding the lock. A file that holds anything else is replaced.

    Raises:
        StateError: it can't be written.
    """
    path = state_dir / CLIENT_ID_NAME
    try:
        kept = path.read_text(encoding="utf-8", errors="replace").strip() if path.exists() else ""
        if _CLIENT_ID.fullmatch(kept):
            return kept
        made = f"farm-{secrets.token_hex(4)}"
        new = path.with_suffix(".new")
        new.write_text(f"{made}\n", encoding="utf-8")
        new.replace(path)  # whole or not at all: half a name would lose the session
    except OSError as error:
        raise StateError(f"{path} can't be kept: {error.strerror}") from error
    return made


def _ipc(path: Path) -> str:
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH_BYTES:
        raise StateError(
            f"{path} is too long for a socket ({length} bytes, at most {MAX_SOCKET_PATH_BYTES}):"
            " give a shorter --state-dir, or tcp://127.0.0.1:PORT in dispatch.*_endpoint"
        )
    return f"ipc://{path}"
