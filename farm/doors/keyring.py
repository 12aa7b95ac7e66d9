"""The `Keyring`: the farm's own CURVE key, and the public keys of the workers that may attach.

Owns the folder ``keys`` of a state directory. A worker's secret is never in it: it leaves with the
invite. Keys are Curve25519 in Z85, as ZeroMQ has them (RFC 26 CurveZMQ, RFC 32 Z85).
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import zmq

from farm.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

DIRECTORY_NAME: Final = "keys"
FARM_KEY_NAME: Final = "farm.key"
WORKERS_NAME: Final = "workers"
MAX_KEYS: Final = 10_000
_SUFFIX: Final = ".pub"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_Z85: Final = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_PRIVATE: Final = 0o700


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair, in Z85."""

    public: str
    secret: str

    def __repr__(self) -> str:
        """Without the secret: reprs end up in logs."""
        return f"KeyPair(public={self.public!r})"


@dataclass(frozen=True, slots=True)
class WorkerKey:
    """A worker that may attach."""

    name: str
    public: str
    made: str  # UTC, ISO 8601


class Keyring:
    """See the module. Files are 0600 in folders of 0700; what others may read is refused."""

    def __init__(self, state_dir: Path) -> None:
        self.directory = state_dir / DIRECTORY_NAME
        self._workers = self.directory / WORKERS_NAME

    def farm_key(self) -> KeyPair:
        """The farm's own pair, made on first use.

        Raises:
            StateError: it can't be read or made, or others may read it.
        """
        path = self.directory / FARM_KEY_NAME
        if not path.exists():
            pair = new_pair()
            write_secret(path, {"public": pair.public, "secret": pair.secret})
            return pair
        told = read_secret(path)
        return KeyPair(_key(told, "public", path), _key(told, "secret", path))

    def add(self, name: str) -> KeyPair:
        """Let a worker in from now on; returns its pair, whose secret is kept nowhere here.

        Raises:
            StateError: the name can't be one, is taken, or the disk fails.
        """
        if not _NAME.fullmatch(name):
            raise StateError(
                f"{name!r:.80} can't name a key: up to 63 letters, digits, dots, dashes and "
                "underscores, the first a letter or a digit"
            )
        path = self._path(name)
        if path.exists():
            raise StateError(
                f"there is a key named {name} already: revoke it with `farm keys revoke {name}`, "
                "or choose another name"
            )
        if len(self.workers()) >= MAX_KEYS:
            raise StateError(f"there are {MAX_KEYS} keys already: revoke those that nobody uses")
        pair = new_pair()
        made = datetime.now(UTC).isoformat(timespec="seconds")
        write_secret(path, {"public": pair.public, "made": made})
        return pair

    def revoke(self, name: str) -> None:
        """Let a worker in no more.

        Raises:
            StateError: no key has this name, or the disk fails.
        """
        known = sorted(key.name for key in self.workers())
        if not _NAME.fullmatch(name) or not self._path(name).exists():
            names = ", ".join(known) if known else "there is none at all"
            raise StateError(f"there is no key named {name!r:.80}: {names}")
        try:
            self._path(name).unlink()
        except OSError as error:
            raise StateError(f"{self._path(name)} can't be removed: {error.strerror}") from error

    def workers(self) -> list[WorkerKey]:
        """The workers that may attach, by name, without those whose key can't be used.

        Raises:
            StateError: the folder can't be read.
        """
        return self.read()[0]

    def read(self) -> tuple[list[WorkerKey], dict[str, StateError]]:
        """The workers that may attach, and of the others, by name, what is wrong with their keys.

        Raises:
            StateError: the folder can't be read.
        """
        try:
            paths = sorted(self._workers.iterdir())
        except FileNotFoundError:
            return [], {}
        except OSError as error:
            raise StateError(f"{self._workers} can't be read: {error.strerror}") from error
        found: list[WorkerKey] = []
        damaged: dict[str, StateError] = {}
        for path in paths:
            name = path.name.removesuffix(_SUFFIX)
            if path.suffix != _SUFFIX or not _NAME.fullmatch(name):
                continue
            try:
                told = read_secret(path)
                public = _key(told, "public", path)
            except StateError as error:
                damaged[name] = error
            else:
                found.append(WorkerKey(name, public, str(told.get("made", ""))))
        return found, damaged

    def changed_ns(self) -> int:
        """When a key was last added or removed, as the file system has it; 0: never."""
        try:
            return self._workers.stat().st_mtime_ns
        except OSError:
            return 0

    def _path(self, name: str) -> Path:
        return self._workers / f"{name}{_SUFFIX}"


def check_keys(state_dir: Path) -> None:
    """Whether a farm that listens to other machines can be started.

    Raises:
        StateError: it has given no key to anybody, or its keys can't be used.
    """
    if not Keyring(state_dir).workers():
        raise StateError(
            "attach.listen is set, and no worker has a key: make one with `farm keys new NAME` "
            "(for this state directory), or leave attach.listen empty"
        )


def new_pair() -> KeyPair:
    """A new key pair, from the system's randomness."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode("ascii"), secret.decode("ascii"))


def is_key(text: object) -> bool:
    """Whether this is a key in Z85."""
    return isinstance(text, str) and _Z85.fullmatch(text) is not None


def write_secret(path: Path, told: dict[str, Any]) -> None:
    """Write a file that only this user may read, whole or not at all.

    Raises:
        StateError: the disk fails.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        _make_private(path.parent)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(told, file)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StateError(f"{path} can't be written: {error.strerror}") from error


def _make_private(folder: Path) -> None:
    """Make a folder and those around it that are missing; `mkdir(parents=True)` lets all into them.

    Raises:
        OSError: it can't be made.
    """
    if not folder.parent.is_dir():
        _make_private(folder.parent)
    folder.mkdir(mode=_PRIVATE, exist_ok=True)


def read_secret(path: Path) -> dict[str, Any]:
    """What `write_secret` wrote.

    Raises:
        StateError: it is not there, no such file, or others may read it.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise StateError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StateError(f"{path} is no key file: make a new one with `farm keys new`") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise StateError(
            f"others may read or write {path} (mode {stat.S_IMODE(mode):04o}): chmod 600 it, and "
            "make a new key if somebody may have seen it"
        )
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StateError(f"{path} is no key file: make a new one with `farm keys new`") from error
    if not isinstance(told, dict):
        raise StateError(f"{path} is no key file: make a new one with `farm keys new`")
    return told


def _key(told: dict[str, Any], name: str, path: Path) -> str:
    key = told.get(name)
    if not is_key(key):
        raise StateError(f"{path} has no {name} key: make a new one with `farm keys new`")
    return str(key)
