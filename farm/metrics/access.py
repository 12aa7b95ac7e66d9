"""Who may ask: the bearer token, and the certificate that we show."""

from __future__ import annotations

import hmac
import ssl
from typing import TYPE_CHECKING

from farm import log
from farm.errors import ConfigError
from farm.token_file import read_token

if TYPE_CHECKING:
    from pathlib import Path

    from farm.config.metrics import MetricsConfig


def token_of(config: MetricsConfig) -> bytes:
    """What must be shown; b"" where nothing must. Read anew each time: the file may change.

    Raises:
        ConfigError: the file can't be used; the message does not show what is in it.
    """
    if config.token_file is None:
        return config.token.get_secret_value().encode("ascii")
    return read_token("metrics.token_file", config.token_file).encode("ascii")


def is_right(shown: bytes, token: bytes) -> bool:
    """Whether a token is the right one, in a time that tells nothing of it."""
    return not token or hmac.compare_digest(shown, token)


class Certificate:
    """Our certificate for HTTPS, read again when its files have changed.

    Raises:
        ConfigError: they can't be used.
    """

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        self._files = (cert_file, key_file)
        self._limited = log.Limited()
        self._stamp = self._look()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """What to wrap a connection with. Files that have become unusable are told, and wait."""
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._context, self._stamp = self._load(), stamp
        except ConfigError as error:  # half renewed, maybe: the next connection looks again
            self._limited.warning(
                "metrics_certificate_unusable",
                reason=str(error),
                effect="the one before is shown until it expires",
                next="looking again with each connection",
            )
        return self._context

    def _look(self) -> tuple[tuple[int, int], ...]:
        try:
            found = [path.stat() for path in self._files]
        except OSError as error:
            raise ConfigError(f"metrics.cert_file: {error.filename}: {error.strerror}") from error
        return tuple((one.st_mtime_ns, one.st_ino) for one in found)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        cert_file, key_file = self._files
        try:
            context.load_cert_chain(cert_file, key_file, password=_no_password)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise ConfigError(
                f"metrics.cert_file: {cert_file} and {key_file} are no certificate and its key:"
                f" {error}"
            ) from error
        return context


def _no_password() -> str:
    """Asked for where a key is locked: else OpenSSL would ask on the terminal."""
    raise ValueError("the key is locked by a password: give one without")
