"""One HTTP request, as far as it matters: method, path and bearer token; and the reply's bytes.

A small part of HTTP/1.1 (RFC 9112): no body is read, and every connection ends with its reply.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final, NamedTuple

MAX_HEAD_BYTES: Final = 8192  # Prometheus sends 300
END: Final = b"\r\n\r\n"
TEXT: Final = "text/plain; charset=utf-8"
_ABSOLUTE: Final = re.compile(r"https?://[^/?#]+(?=[/?]|$)", re.IGNORECASE)
_METHODS: Final = ("GET", "HEAD")


class Request(NamedTuple):
    """What was asked."""

    path: str
    wants_body: bool
    token: bytes  # as it was shown; b"" for none


class RequestError(Exception):
    """It can't be answered; `status` says why."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


def parse(head: bytes) -> Request:
    """The request of a head, without the empty line at its end.

    Raises:
        RequestError: it is malformed, or not for us.
    """
    line, *headers = head.split(b"\r\n")
    match line.decode("latin-1").split(" "):
        case [method, target, "HTTP/1.0" | "HTTP/1.1"] if path := _path(target):
            pass
        case _:
            raise RequestError(HTTPStatus.BAD_REQUEST)
    if method not in _METHODS:
        raise RequestError(HTTPStatus.METHOD_NOT_ALLOWED)
    return Request(path, method == "GET", _token(headers))


def _path(target: str) -> str:
    """Of the origin form or the absolute one (RFC 9112, section 3.2); "" for what is neither."""
    found = _ABSOLUTE.match(target)
    if found is not None:
        target = f"/{target[found.end() :].removeprefix('/')}"
    return target.partition("?")[0] if target.startswith("/") else ""


def _token(headers: list[bytes]) -> bytes:
    found = b""
    for header in headers:
        name, colon, value = header.partition(b":")
        if not colon:
            raise RequestError(HTTPStatus.BAD_REQUEST)
        if name.lower() == b"authorization":
            scheme, _, token = value.strip().partition(b" ")
            if found or scheme.lower() != b"bearer":
                raise RequestError(HTTPStatus.UNAUTHORIZED)
            found = token.strip()
    return found


def reply(
    status: HTTPStatus, body: bytes, *, content_type: str = TEXT, wants_body: bool = True
) -> bytes:
    """The bytes of a reply."""
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append(f"Allow: {', '.join(_METHODS)}")
    if status is HTTPStatus.UNAUTHORIZED:
        lines.append('WWW-Authenticate: Bearer realm="farm"')
    head = "\r\n".join(lines).encode("ascii") + END
    return head + body if wants_body else head
