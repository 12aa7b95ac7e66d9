"""Addresses of this machine to listen at: their form, and whether only this machine gets there."""

from __future__ import annotations

import re
from ipaddress import ip_address

from pydantic_core import PydanticCustomError

from farm.config.base import Section

MAX_PORT = 65_535
MIN_TOKEN_CHARS = 16  # what is shorter can be tried out
ALL = "*"  # every address of this machine
_ADDRESS = re.compile(r"(\*|\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z][0-9A-Za-z.-]*):([1-9][0-9]{0,4})")


def is_loopback(host: str) -> bool:
    """Whether only this machine gets to a host; no name but localhost is asked for.

    Args:
        host: a name or an IP address, that of version 6 with or without brackets.
    """
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def address(text: str) -> str:
    """Accept nothing, or HOST:PORT."""
    found = _ADDRESS.fullmatch(text)
    if text and (found is None or int(found[2]) > MAX_PORT or not _is_host(found[1])):
        raise PydanticCustomError(
            "address",
            "must be HOST:PORT, where HOST is an address of this machine or * for all of them",
        )
    return text


def _is_host(text: str) -> bool:
    """A name, *, or an IP address that is one."""
    if not text.startswith("[") and any(map(str.isalpha, text)):
        return True
    try:
        return text == ALL or bool(ip_address(text.strip("[]")))
    except ValueError:
        return False


class Listening(Section):
    """A section with an address to listen at."""

    listen: str

    @property
    def host(self) -> str:
        """The address that is listened at, without brackets; * for all."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Where is listened; 0: nowhere."""
        return int(self.listen.rpartition(":")[2] or 0)

    @property
    def is_local(self) -> bool:
        """Whether only this machine gets there."""
        return is_loopback(self.host)
