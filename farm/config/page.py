"""The configuration of the page (docs/page.md)."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from farm.config.base import FilePath, Section, refuse

MAX_PORT = 65_535
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9.]+|localhost):([1-9][0-9]{0,4})")


def _address(text: str) -> str:
    """Accept nothing, or HOST:PORT."""
    if not text:
        return text
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found[2]) > MAX_PORT or not _is_address(found[1].strip("[]")):
        raise PydanticCustomError(
            "address", "must be HOST:PORT, where HOST is an address of this machine or localhost"
        )
    return text


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


class PageConfig(Section):
    """The page that shows what happens, in a browser; it only reads (docs/page.md)."""

    listen: Annotated[str, AfterValidator(_address)] = Field(
        "",
        description="HOST:PORT where it is served, e.g. 127.0.0.1:8780; empty: not at all. Beyond"
        " this machine a token is needed.",
    )
    token_file: FilePath | None = Field(
        None,
        description="File whose first line is the token that browsers must give, of 16 characters"
        " or more.",
    )
    keep_holes: int = Field(
        20_000,
        ge=100,
        le=500_000,
        description="Newest holes in its list; about 1 kB of memory each.",
    )
    max_viewers: int = Field(
        50, ge=1, le=10_000, description="Browsers that are kept up to date at once."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.listen and self.token_file is None and not self.is_loopback:
            raise refuse(
                "token_file",
                "must be given where page.listen is not on loopback: whoever reaches it could read"
                " every hole",
            )
        return self

    @property
    def host(self) -> str:
        """The address that is listened at."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """0 where nothing is."""
        return int(self.listen.rpartition(":")[2] or 0)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine gets there."""
        return self.host == "localhost" or ip_address(self.host).is_loopback
