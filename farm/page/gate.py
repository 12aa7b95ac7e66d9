"""The `Gate`: who may look at the page. A decision without I/O.

Without a token only this machine gets there, and a name that merely resolves to it does not: else
a stranger's site could have a browser here read the page for it (DNS rebinding). With one, who
shows it: as a bearer, or as the cookie that the form gave for it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

COOKIE_LIFE_S: Final = 7 * 86_400
_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_PURPOSE: Final = b"farm page cookie, version 1"
_COOKIE_PURPOSE: Final = b"farm page cookie's name, version 1"


class Gate:
    """See the module. Times are seconds since 1970.

    Args:
        token: what must be shown; None: nothing, but the host's name must be a local one.
        host: that is listened at.

    Attributes:
        cookie_name: another one for each token. A browser sends a host's cookies to all its ports:
            with one name, two pages of one machine would log each other out.
    """

    def __init__(self, token: str | None, host: str) -> None:
        self._token = None if token is None else token.encode()
        bracketed = f"[{host}]" if ":" in host else host
        self._names = _LOCAL_NAMES | {bracketed.lower()}
        named = hashlib.sha256(_COOKIE_PURPOSE + b"\0" + (self._token or b"")).hexdigest()
        self.cookie_name = f"farm_page_{named[:8]}"

    @property
    def asks_for_token(self) -> bool:
        """Whether there is one."""
        return self._token is not None

    def knows_host(self, header: str) -> bool:
        """Whether a request's Host is one of ours."""
        if self._token is not None:
            return True  # behind a proxy it may be any, and a stranger's site has no token
        name, colon, port = header.rpartition(":")
        is_with_port = bool(colon) and port.isdecimal()
        return (name if is_with_port else header).lower() in self._names

    def lets_in(self, *, authorization: str, cookie: str, now_s: float) -> bool:
        """Whether a request may read.

        Args:
            authorization: its header of this name.
            cookie: of the name `cookie_name`.
            now_s: the time.
        """
        if self._token is None:
            return True
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return True
        return self._is_cookie(cookie, now_s)

    def is_token(self, given: str) -> bool:
        """Whether this is the token; in constant time."""
        assert self._token is not None
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token)

    def cookie(self, now_s: float) -> str:
        """What a browser shows from now on. Not the token: who finds it has a week with it."""
        until = str(int(now_s) + COOKIE_LIFE_S)
        return f"{until}.{self._signature(until)}"

    def _is_cookie(self, cookie: str, now_s: float) -> bool:
        until, dot, signature = cookie.partition(".")
        if not dot or not (until.isascii() and until.isdecimal() and len(until) < 16):
            return False
        ours = self._signature(until).encode()
        is_ours = hmac.compare_digest(signature.encode("utf-8", "replace"), ours)
        return is_ours and int(until) > now_s

    def _signature(self, until: str) -> str:
        assert self._token is not None
        key = hashlib.sha256(_PURPOSE + b"\0" + self._token).digest()
        made = hmac.digest(key, until.encode(), "sha256")
        return base64.urlsafe_b64encode(made).decode().rstrip("=")
