"""Fetching the farm's model to a machine that does not have it, and proving it to be that one.

Owns the cache of fetched packages, a folder each under the user's cache directory, named by what is
in it. A package is whole or is none: files first, the manifest last; and every one is compared with
the hash that the farm has told.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import zmq

from farm import log, wire
from farm.control import ControlClient
from farm.errors import ModelError, WireError
from farm.models.package import MANIFEST, Package, open_package
from farm.models.registry import model_folders

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from farm.sockets import Credentials

MAX_FILE_BYTES: Final = 2_000_000_000
TRY_S: Final = 10.0  # for one piece
LOOK_MS: Final = 100  # whether it is over
GIVE_UP_S: Final = 120.0  # without a single piece
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def model_here(
    catalogue: Mapping[str, Any],
    endpoint: str,
    credentials: Credentials,
    cache: Path,
    is_over: Callable[[], bool] = lambda: False,
) -> Package:
    """The package that a farm computes with, on this machine: found, or fetched now.

    Args:
        catalogue: as `farm.broker.library.Library.catalogue` has told it.
        endpoint: of the farm's control socket.
        credentials: for it.
        cache: where fetched packages are.
        is_over: asked in between whether to give up.

    Raises:
        ModelError: it can't be fetched, or is not what the farm says it is.
    """
    sha256 = _checked(catalogue)
    for folder in [*model_folders().values(), cache / _digest(sha256)]:
        if found := _whole(folder, sha256):
            return found
    folder = cache / _digest(sha256)
    lender = _Lender(endpoint, credentials, is_over)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in [*sha256, MANIFEST]:  # the manifest last: then all of it is there
            lender.bring(name, folder / name, sha256.get(name))
    except OSError as error:
        raise ModelError(f"the model can't be kept in {folder}: {error.strerror}") from error
    finally:
        lender.close()
    if found := _whole(folder, sha256):
        log.get().info("model_fetched", model=found.manifest.name, folder=str(folder))
        return found
    raise ModelError(f"what the farm lent into {folder} is not what it said: remove that folder")


def cache_directory(environ: Mapping[str, str]) -> Path:
    """Where fetched models are kept: $XDG_CACHE_HOME/farm/models, or under ~/.cache."""
    base = environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return root / "farm" / "models"


class _Lender:
    """Asks the farm for files, a piece at a time; a lost piece is asked for again."""

    def __init__(
        self, endpoint: str, credentials: Credentials, is_over: Callable[[], bool]
    ) -> None:
        self._endpoint = endpoint
        self._is_over = is_over
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._client = ControlClient(
            self._context, endpoint, timeout_s=TRY_S, credentials=credentials
        )

    def bring(self, name: str, path: Path, sha256: str | None) -> None:
        """Fetch a file; it is compared before it gets its name. None: it vouches for itself."""
        part = path.with_name(f"{name}.{os.getpid()}.part")
        digest = hashlib.sha256()
        size = 0
        with part.open("wb") as file:
            while payload := self._piece(name, size):
                file.write(payload)
                digest.update(payload)
                size += len(payload)
                if size > MAX_FILE_BYTES:
                    raise ModelError(f"{name} of the farm's model has no end")
        if sha256 is not None and digest.hexdigest() != sha256:
            part.unlink()
            raise ModelError(f"{name} came otherwise than the farm said it is: try again")
        part.replace(path)

    def close(self) -> None:
        """Give the socket back."""
        self._client.close()
        self._context.destroy(linger=0)

    def _piece(self, name: str, offset: int) -> bytes:
        give_up_s = time.monotonic() + GIVE_UP_S
        while time.monotonic() < give_up_s:
            self._client.send(wire.Fetch(name, offset))
            reply = None
            if self._has_reply():
                try:
                    reply = self._client.receive()
                except WireError as error:
                    raise ModelError(f"the farm is of another version: {error}") from error
            match reply:
                case wire.Piece(payload):
                    return payload
                case wire.Refused(reason):
                    raise ModelError(f"the farm lends no {name}: {reason}")
            self._client.reset()
        raise ModelError(
            f"the farm at {self._endpoint} has lent no piece of {name} for {GIVE_UP_S:g} s"
        )

    def _has_reply(self) -> bool:
        try_until_s = time.monotonic() + TRY_S
        while time.monotonic() < try_until_s:
            if self._client.socket.poll(LOOK_MS):
                return True
            if self._is_over():
                raise ModelError("told to leave before the model was here")
        return False


def _checked(catalogue: Mapping[str, Any]) -> dict[str, str]:
    """The files that are told, as plain names and hashes."""
    sha256 = catalogue.get("sha256")
    if isinstance(sha256, dict) and all(
        isinstance(value, str) and _NAME.fullmatch(name) and _SHA256.fullmatch(value)
        for name, value in sha256.items()
    ):
        return sha256
    raise ModelError("the farm names files of its model that can't be: is it of another version?")


def _digest(sha256: Mapping[str, str]) -> str:
    told = json.dumps(sha256, sort_keys=True).encode()
    return hashlib.sha256(told).hexdigest()[:32]


def _whole(folder: Path, sha256: Mapping[str, str]) -> Package | None:
    """The package in a folder, if it is just this one, with every file as it should be."""
    try:
        package = open_package(folder)
        if package.manifest.sha256 != sha256:
            return None
        package.verify()
    except ModelError:
        return None
    return package
