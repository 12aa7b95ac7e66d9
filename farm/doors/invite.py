"""The `Invite`: all that a worker on another machine needs, as a key file or as one line.

Owns both forms. It holds the worker's secret key: whoever has it is that worker.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from farm.doors.keyring import KeyPair, is_key, read_secret, write_secret
from farm.errors import StateError

if TYPE_CHECKING:
    from pathlib import Path

_PREFIX: Final = "farm1-"  # the version is part of it
_MAX_CHARS: Final = 4000
_ENDPOINT: Final = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):([1-9][0-9]{0,4})")


@dataclass(frozen=True, slots=True)
class Invite:
    """See the module.

    Attributes:
        endpoint: tcp://HOST:PORT of the farm's control socket, as the worker reaches it.
        farm_key: the farm's public key, which no other farm can pretend to have.
        name: of the key.
        public: the worker's public key.
        secret: and its secret one.
    """

    endpoint: str
    farm_key: str
    name: str
    public: str
    secret: str

    def __repr__(self) -> str:
        """Without the secret: reprs end up in logs."""
        return f"Invite({self.name!r} at {self.endpoint!r})"

    @property
    def pair(self) -> KeyPair:
        """The worker's keys."""
        return KeyPair(self.public, self.secret)

    def line(self) -> str:
        """The invite as one line without blanks."""
        packed = json.dumps(list(asdict(self).values()), separators=(",", ":")).encode()
        return _PREFIX + base64.urlsafe_b64encode(packed).decode("ascii").rstrip("=")

    @classmethod
    def of_line(cls, line: str) -> Self:
        """The invite of a line.

        Raises:
            StateError: it is none, or not whole.
        """
        line = line.strip()
        if not line.startswith(_PREFIX) or len(line) > _MAX_CHARS:
            raise StateError(
                f"this is no invite: it begins with {_PREFIX} and comes from `farm keys new`"
            )
        packed = line.removeprefix(_PREFIX)
        try:
            raw = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
            values = json.loads(raw)
        except (ValueError, binascii.Error, RecursionError) as error:
            raise StateError("the invite is not whole: copy the line again, all of it") from error
        names = list(cls.__dataclass_fields__)
        if not isinstance(values, list) or len(values) != len(names):
            raise StateError("the invite is not whole: copy the line again, all of it")
        return cls._checked(dict(zip(names, values, strict=True)), "the invite")

    def save(self, path: Path) -> None:
        """Write the key file, which only this user may read.

        Raises:
            StateError: the disk fails.
        """
        write_secret(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """The invite in a key file.

        Raises:
            StateError: it can't be read, is none, or others may read it.
        """
        told = read_secret(path)
        return cls._checked({name: told.get(name) for name in cls.__dataclass_fields__}, str(path))

    @classmethod
    def _checked(cls, told: dict[str, Any], where: str) -> Self:
        if not all(isinstance(value, str) for value in told.values()):
            raise StateError(f"{where} is not whole: make a new one with `farm keys new`")
        if not all(is_key(told[name]) for name in ("farm_key", "public", "secret")):
            raise StateError(f"{where} holds no keys: make a new one with `farm keys new`")
        if not is_endpoint(told["endpoint"]):
            raise StateError(f"{where} names no tcp://HOST:PORT")
        return cls(**told)


def is_endpoint(text: str) -> bool:
    """Whether this is tcp://HOST:PORT, with the brackets that an IPv6 address needs."""
    found = _ENDPOINT.fullmatch(text)
    return found is not None and int(found[2]) <= 65_535


def host_of(endpoint: str) -> str:
    """The host in tcp://HOST:PORT."""
    return endpoint.removeprefix("tcp://").rpartition(":")[0]
