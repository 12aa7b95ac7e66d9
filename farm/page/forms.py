"""The token's form: what is read of it, and where it leads from and to.

Owns no token: whether it is right is the gate's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, quote, urlsplit

if TYPE_CHECKING:
    from starlette.requests import Request

SHELLS: Final = ("/", "/live", "/tools", "/tool", "/dead")  # the pages, beside those of holes
HOLE: Final = "/hole/"
NEXT: Final = "next"  # where to after the form
MAX_NEXT_CHARS: Final = 2000
MAX_FORM_BYTES: Final = 4096
FORM_TIMEOUT_S: Final = 5.0  # for it to arrive


def login_address(path: str, query: bytes) -> str:
    """The form's, for one who wanted to go there."""
    wanted = quote(path) + ("?" + query.decode("ascii", "replace") if query else "")
    return (
        f"/login?{NEXT}={quote(wanted, safe='')}"
        if wanted != "/" and _is_ours(wanted)
        else "/login"
    )


def way_on(given: str) -> str:
    """Where the form leads to: what was wanted, where that is a page of ours; else the list."""
    return given if _is_ours(given) else "/"


async def token_of(request: Request) -> str | None:
    """The token of the form; None where there is none, it is late, or it is no form of ours."""
    body = b""
    try:
        async with asyncio.timeout(FORM_TIMEOUT_S):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_FORM_BYTES:
                    return None
        return parse_qs(body.decode(), max_num_fields=4).get("token", [""])[0]
    except (TimeoutError, UnicodeDecodeError, ValueError):
        return None


def _is_ours(address: str) -> bool:
    r"""Whether it is a page of ours; "//host" and "/\\host" are other sites to a browser."""
    is_plain = address.isascii() and address.isprintable() and len(address) <= MAX_NEXT_CHARS
    if not is_plain or "\\" in address or " " in address:
        return False
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    if parts.scheme or parts.netloc or parts.fragment:
        return False
    hole = parts.path.removeprefix(HOLE)
    return parts.path in SHELLS or (hole != parts.path and bool(hole) and "/" not in hole)
