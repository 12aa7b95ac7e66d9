"""The configuration of what monitoring reads: metrics, and whether the farm is well."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from farm.config.base import FilePath, refuse
from farm.config.listening import MIN_TOKEN_CHARS, Listening, address


def _token(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if text and (len(text) < MIN_TOKEN_CHARS or not (text.isascii() and text.isprintable())):
        raise PydanticCustomError(
            "token", f"must be {MIN_TOKEN_CHARS} or more printable ASCII characters"
        )
    return secret


class MetricsConfig(Listening):
    """Where Prometheus and health checks ask: /metrics, /healthz and /readyz (docs/metrics.md)."""

    listen: Annotated[str, AfterValidator(address)] = Field(
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
    def has_token(self) -> bool:
        """Whether who asks must show one."""
        return bool(self.token_file or self.token.get_secret_value())
