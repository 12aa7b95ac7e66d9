"""The configuration of the page (docs/page.md)."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from farm.config.base import FilePath, refuse
from farm.config.listening import Listening, address


class PageConfig(Listening):
    """The page that shows what happens, in a browser; it only reads (docs/page.md)."""

    listen: Annotated[str, AfterValidator(address)] = Field(
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
        le=100_000,  # a filter looks at each of them, and meanwhile nobody else is answered
        description="Newest holes in its list; about 1 kB of memory each.",
    )
    max_viewers: int = Field(
        50, ge=1, le=10_000, description="Browsers that are kept up to date at once."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.listen and self.token_file is None and not self.is_local:
            raise refuse(
                "token_file",
                "must be given where page.listen is not on loopback: whoever reaches it could read"
                " every hole",
            )
        return self
