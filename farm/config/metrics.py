"""The configuration of what monitoring reads: metrics, and whether the farm is well."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from farm.config.base import FilePath, Section, refuse

MIN_TOKEN_CHARS = 16  # what is shorter can be tried out
_ADDRESS = re.compile(r"(\*|\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z][0-9A-Za-z.-]*):([1-9][0-9]{0,4})")


def _address(text: str) -> str:
    """Accept nothing, or HOST:PORT."""
    if not text:
        return text
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found[2]) > 65_535:
        raise PydanticCustomError(
            "address",
            "must be HOST:PORT, where HOST is an address of this machine or * for all of them",
        )
    return text


def _token(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if text and (len(text) < MIN_TOKEN_CHARS or not (text.isascii() and text.isprintable())):
        raise PydanticCustomError(
            "token", f"must be {MIN_TOKEN_CHARS} or more printable ASCII characters"
        )
    return secret


class MetricsConfig(Section):
    """Where Prometheus and health checks ask: /metrics, /healthz and /readyz (docs/metrics.md)."""

    listen: Annotated[str, AfterValidator(_address)] = Field(
        "",
        description="HOST:PORT where they ask, e.g. 127.0.0.1:9477; empty: nowhere. Beyond loopback"
        " a token is needed.",
    )
    token: Annotated[SecretStr, AfterValidator(_token)] = Field(
        SecretStr(""),
        description="What they must show as bearer token; rather give token_file or the"
        " environment.",
    )
    token_file: FilePath | None = Field(
        None,
        description="A file whose first line is the token, instead of token. It may change while"
        " the farm runs.",
    )
    cert_file: FilePath | None = Field(
        None, description="Certificate chain (PEM) for HTTPS; without it they ask by plain HTTP."
    )
    key_file: FilePath | None = Field(None, description="The private key (PEM) of cert_file.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.token.get_secret_value() and self.token_file:
            raise refuse("token_file", "give either token or token_file, not both")
        if self.key_file and not self.cert_file:
            raise refuse("key_file", "needs cert_file beside it")
        if self.cert_file and not self.key_file:
            raise refuse("cert_file", "needs key_file beside it")
        if self.listen and not self.is_local and not self.has_token:
            raise refuse(
                "listen",
                "must be on loopback, or metrics.token_file must be given: a file whose first line"
                " only the monitoring knows",
            )
        return self

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
        """Whether only this machine reaches it. Other names than localhost are not asked for."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def has_token(self) -> bool:
        """Whether who asks must show one."""
        return bool(self.token_file or self.token.get_secret_value())
