"""The file with a token: what programs and browsers show who may look from beyond this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from farm.config.listening import MIN_TOKEN_CHARS
from farm.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

MAX_TOKEN_CHARS: Final = 1000


def read_token(key: str, path: Path) -> str:
    """The first line of the file that a configuration key names.

    Raises:
        ConfigError: it can't be read, or is no token; the message does not show what is in it.
    """
    try:
        with path.open("rb") as file:
            line = file.read(2 * MAX_TOKEN_CHARS).partition(b"\n")[0].strip()
    except OSError as error:
        raise ConfigError(f"{key}: {path} can't be read: {error.strerror}") from error
    token = line.decode("ascii", "replace")
    is_ascii = token.isascii() and token.isprintable()
    if not (is_ascii and MIN_TOKEN_CHARS <= len(token) <= MAX_TOKEN_CHARS):
        raise ConfigError(
            f"{key}: the first line of {path} is no token: {MIN_TOKEN_CHARS} to {MAX_TOKEN_CHARS}"
            " printable ASCII characters; `openssl rand -hex 24` makes one"
        )
    return token
