"""Tickets: the proof that a worker was sent the job it claims or answers.

A keyed hash of the job's id (BLAKE2, RFC 7693), so nothing has to be kept: a broker that comes
after this one gives the same ticket to the same hole, and a result finished meanwhile counts.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Final

from farm.doors.keyring import read_secret, write_secret
from farm.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = "tickets.key"
_SECRET_BYTES: Final = 32
_TICKET_BYTES: Final = 8


class Tickets:
    """See the module.

    Args:
        secret: at most 64 bytes that no worker knows; without any, of this life alone.
    """

    def __init__(self, secret: bytes | None = None) -> None:
        self._keyed = hashlib.blake2b(
            key=secret or secrets.token_bytes(_SECRET_BYTES), digest_size=_TICKET_BYTES
        )

    def of(self, job_id: int) -> int:
        """The ticket of a job, from 0 to 2**64 - 1."""
        keyed = self._keyed.copy()
        keyed.update(job_id.to_bytes(8, "little"))
        return int.from_bytes(keyed.digest(), "little")


def load_tickets(directory: Path) -> Tickets:
    """The tickets of a farm, whose secret is made on first use and kept in this folder.

    Raises:
        StateError: it can't be read or made.
    """
    path = directory / NAME
    if not path.exists():
        secret = secrets.token_bytes(_SECRET_BYTES)
        write_secret(path, {"secret": secret.hex()})
        return Tickets(secret)
    try:
        secret = bytes.fromhex(str(read_secret(path).get("secret", "")))
    except ValueError:
        secret = b""
    if len(secret) != _SECRET_BYTES:
        raise StateError(f"{path} holds no secret: remove it, and a new one is made")
    return Tickets(secret)
