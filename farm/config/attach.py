"""The configuration of workers on other machines."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from farm.config.base import Section

PORTS = 3  # of the control, jobs and results sockets, one after the other
_ADDRESS = re.compile(r"(\*|\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z][0-9A-Za-z.-]*):([1-9][0-9]{0,4})")
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z][0-9A-Za-z.-]*")


def _address(text: str) -> str:
    """Accept nothing, or HOST:PORT with room for two more ports."""
    if not text:
        return text
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found[2]) > 65_536 - PORTS:
        raise PydanticCustomError(
            "address",
            "must be HOST:PORT, where HOST is an address of this machine or * for all of them, and"
            " the next two ports are free, too",
        )
    return text


def _host(text: str) -> str:
    if text and not _HOST.fullmatch(text):
        raise PydanticCustomError("host", "must be a host name or an IP address (IPv6 in [])")
    return text


class AttachConfig(Section):
    """Workers on other machines. Each needs a key: `farm keys new NAME`."""

    listen: Annotated[str, AfterValidator(_address)] = Field(
        "",
        description="HOST:PORT where workers of other machines join, e.g. 0.0.0.0:7003; jobs and"
        " results take the next two ports. Empty: none may.",
    )
    public_host: Annotated[str, AfterValidator(_host)] = Field(
        "",
        description="Under which name or address they reach this machine; it stands in the"
        " invites. Empty: the host in `listen`, or this machine's name.",
    )

    max_workers: int = Field(
        256,
        ge=1,
        le=100_000,
        description="Workers of other machines at once; one more is refused, and tries again.",
    )
    max_workers_per_key: int = Field(
        64, ge=1, le=100_000, description="Of these, so many by one key."
    )
    requests_hz: float = Field(
        200.0,
        gt=0,
        le=1e6,
        description="Requests of one key in a second, on average over ten; a worker has two, and"
        " one for each 0.5 MB of a model.",
    )
    results_hz: float = Field(
        5000.0,
        gt=0,
        le=1e7,
        description="Claims and results of one key in a second, likewise; a hole has two.",
    )
    keep_out_s: float = Field(
        60.0,
        ge=0,
        le=86_400,
        description="Seconds for which a key is kept out that goes on beyond these rates.",
    )

    @property
    def host(self) -> str:
        """The address that is listened at; * for all."""
        host = self.listen.rpartition(":")[0]
        return "*" if host == "0.0.0.0" else host  # noqa: S104 - compared, not bound

    @property
    def port(self) -> int:
        """Of the control socket; 0 where nothing is listened at."""
        return int(self.listen.rpartition(":")[2] or 0)
