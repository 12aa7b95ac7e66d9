"""The `Pseudonyms`: made-up names in the place of real ones, always the same for the same one.

A keyed hash: without the key nobody can try out which name a made-up one stands for, and with it
several recordings can have the same ones. Nothing has to be remembered.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import uuid
from typing import TYPE_CHECKING, Final

from farm.errors import RecordingError

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES: Final = 32
_MIN_KEY_BYTES: Final = 16
_MAX_KEY_BYTES: Final = 64  # of BLAKE2b
_DIGITS: Final = 12  # of a made-up number: fits a double, and two holes hardly ever share one
_DAYS: Final = (365, 3650)  # by how much times are moved back


class Pseudonyms:
    """See the module.

    Args:
        key: secret; who has it can tell which name stands for which guess.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key[:_MAX_KEY_BYTES]

    def name(self, prefix: str, *parts: str) -> str:
        """A name for a text in a context: the prefix and eight hex digits."""
        return f"{prefix}-{self._hash(prefix, *parts).hex()[:8].upper()}"

    def number(self, *parts: str) -> int:
        """A positive number of up to twelve digits."""
        return int.from_bytes(self._hash("number", *parts)) % (10**_DIGITS - 1) + 1

    def like(self, prefix: str, text: str, *context: str) -> str:
        """A number in digits where the text is one, else a name."""
        if text.isascii() and text.isdigit():
            return str(self.number(prefix, text, *context))
        return self.name(prefix, text, *context)

    def uuid(self, text: str) -> str:
        """A UUID."""
        return str(uuid.UUID(bytes=self._hash("uuid", text), version=4))

    def shift_s(self) -> int:
        """By how many seconds times are moved: years back, and the same for all."""
        low, high = (days * 86_400 for days in _DAYS)
        return -(low + int.from_bytes(self._hash("shift")) % (high - low))

    def _hash(self, *parts: str) -> bytes:
        mixed = hashlib.blake2b(key=self._key, digest_size=16)
        for part in parts:
            raw = part.encode("utf-8", "backslashreplace")
            mixed.update(len(raw).to_bytes(4) + raw)  # so that ("a", "bc") is not ("ab", "c")
        return mixed.digest()


def read_key(path: Path | None) -> bytes:
    """The key in a file, which is made (mode 0600) where it is missing; None: one for this time.

    Raises:
        RecordingError: it can't be read or made, or is too short.
    """
    if path is None:
        return secrets.token_bytes(KEY_BYTES)
    try:
        return _make_key(path)
    except FileExistsError:
        pass
    except OSError as error:
        raise RecordingError(f"the key {path} can't be made: {error.strerror}") from error
    try:
        with path.open("rb") as file:
            key = file.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise RecordingError(f"the key {path} can't be read: {error.strerror}") from error
    if len(key) < _MIN_KEY_BYTES:
        raise RecordingError(
            f"the key {path} has {len(key)} bytes, at least {_MIN_KEY_BYTES} are needed: name a "
            "file that does not exist, and it is made"
        )
    return key


def _make_key(path: Path) -> bytes:
    key = secrets.token_bytes(KEY_BYTES)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
    except OSError:
        path.unlink(missing_ok=True)  # an empty one would be refused the next time
        raise
    return key
