"""Stands before the application: who may ask at all, and the headers of every answer.

Written as plain ASGI, so that streams pass without being gathered.
"""

from __future__ import annotations

import time
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse

from farm.page.forms import login_address

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from farm.page.gate import Gate

# No script, style or picture but ours, nothing inline, no other site, and no frame around it.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_OPEN_TO_ALL: Final = ("/login", "/static/")  # no data in them
_MAX_COOKIE_CHARS: Final = 8000


class Guarded:
    """See the module."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)  # the application's own beginning and end
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        await (self._app if refusal is None else refusal)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, path = Headers(scope=scope), scope["path"]
        if not self._gate.knows_host(headers.get("host", "")):
            return PlainTextResponse(
                "this page answers to its own address alone: see page.token_file\n", 421
            )
        if _is_foreign(headers):
            return PlainTextResponse("another site asks\n", 403)
        if path.startswith(_OPEN_TO_ALL):
            return None
        cookie = _cookie(headers.get("cookie", ""), self._gate.cookie_name)
        authorization = headers.get("authorization", "")
        if self._gate.lets_in(authorization=authorization, cookie=cookie, now_s=time.time()):
            return None
        if path.startswith(("/api/", "/events")) or scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse(
                "a token is needed: see page.token_file\n", 401, {"WWW-Authenticate": "Bearer"}
            )
        return RedirectResponse(login_address(path, scope["query_string"]), 303)


def _is_foreign(headers: Headers) -> bool:
    """Whether a script of another site asks; links from there may lead here."""
    if headers.get("sec-fetch-site", "same-origin") in ("cross-site", "same-site"):
        return headers.get("sec-fetch-mode") != "navigate"
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host", "")


def _cookie(header: str, name: str) -> str:
    if name not in header or len(header) > _MAX_COOKIE_CHARS:
        return ""
    try:
        morsel = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return "" if morsel is None else morsel.value
