"""The page as an ASGI application: what is asked for by whom, and what may be said back.

Everything is read with GET or HEAD; the one POST is the token's form. Owns the paths, their limits
and the headers; what is told is the index's, the looks' and the feed's.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson
from starlette.applications import Starlette
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from farm import __version__
from farm.errors import FarmError
from farm.journal.ids import asked, told
from farm.page.forms import HOLE, NEXT, SHELLS, token_of, way_on
from farm.page.gate import COOKIE_LIFE_S
from farm.page.guarding import Guarded
from farm.page.index import OUTCOMES, Filter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from concurrent.futures import Executor

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from farm.page.feed import Feed
    from farm.page.gate import Gate
    from farm.page.index import HoleIndex
    from farm.page.looks import Looks
    from farm.page.origin import Origin
    from farm.page.statics import Statics
    from farm.viewer import GuardedViewer

MAX_ROWS: Final = 500  # of one answer
ROWS: Final = 100  # where nothing is said
MAX_OFFSET: Final = 10_000_000
MAX_TEXT_CHARS: Final = 200  # of a filter
TREND_HOLES: Final = 120
TOOLS_EVERY_S: Final = 1.0  # at most so often all rows are summed up
_NUMPY: Final = orjson.OPT_SERIALIZE_NUMPY
STREAM_LIFE_S: Final = 1800.0  # then a browser is told to connect again
STREAM_JITTER_S: Final = 300.0  # and not all of them at once
STREAM_CUT_S: Final = 60.0  # later, one that reads nothing is cut off: so its going is noticed
AGAIN: Final = b"event: again\ndata: 0\n\n"
FORM_DELAY_S: Final = 1.0  # after a wrong token
MAX_FORMS: Final = 4  # that wait for it at once


class BadRequest(Exception):  # noqa: N818 - an answer's name
    """What is asked for is none that can be answered; the message says why."""


class Site:
    """All that is behind the paths; see the module."""

    def __init__(
        self,
        *,
        index: HoleIndex,
        looks: Looks,
        feed: Feed,
        gate: Gate,
        statics: Statics,
        executor: Executor,
        origin: Origin,
    ) -> None:
        self._index, self._looks, self._feed = index, looks, feed
        self._gate, self._statics = gate, statics
        self._executor = executor
        self._origin = origin
        self._forms = 0
        self._tools_told: bytes | memoryview = b""
        self._tools_edition, self._tools_until_s = "", 0.0

    def app(self) -> Guarded:
        """The application."""
        shell = [Route(path, self._shell) for path in (*SHELLS, HOLE + "{hole}")]
        data: list[tuple[str, Callable[[Request], Awaitable[Response]]]] = [
            ("/api/holes", self._holes),
            ("/api/holes/{hole}", self._hole),
            ("/api/holes/{hole}/picture", self._picture),
            ("/api/holes/{hole}/parts/{kind}", self._part),
            ("/api/tools", self._tools),
            ("/api/tool", self._tool),
            ("/api/levels", self._levels),
            ("/api/dead", self._dead),
            ("/events", self._events),
        ]
        routes = [*shell, *(Route(path, _answered(look)) for path, look in data)]
        routes.append(Route("/static/{version}/{name:path}", self._static))
        if self._gate.asks_for_token:
            routes.append(Route("/login", self._login_form))
            routes.append(Route("/login", self._login, methods=["POST"]))
        routes.append(Route("/{path:path}", self._nowhere))
        app = Starlette(routes=routes)
        app.router.redirect_slashes = False
        return Guarded(app, self._gate)

    # ---- files --------------------------------------------------------------------------------

    async def _shell(self, request: Request) -> Response:
        return self._file(request, "index.html", "no-cache")

    async def _nowhere(self, request: Request) -> Response:
        if request.url.path.startswith(("/api/", "/static/")):
            return _told("there is nothing at this address", 404)
        response = self._file(request, "index.html", "no-store")
        response.status_code = 404
        return response

    async def _login_form(self, request: Request) -> Response:
        return self._file(request, "login.html", "no-store")

    async def _static(self, request: Request) -> Response:
        version, name = request.path_params["version"], request.path_params["name"]
        # what is kept for good must be what was asked for; and no shell: it tells of the traffic
        if version != self._statics.version or name.endswith(".html"):
            return _told("there is no such file in this version of the page", 404)
        return self._file(request, name, "public, max-age=31536000, immutable")

    def _file(self, request: Request, name: str, caching: str) -> Response:
        found = self._statics.get(name)
        if found is None:
            return _told("there is no such file", 404)
        headers = {"Cache-Control": caching, "Vary": "Accept-Encoding"}
        content = found.content
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            content = found.compressed
        return Response(content, media_type=found.media_type, headers=headers)

    # ---- data ---------------------------------------------------------------------------------

    async def _holes(self, request: Request) -> Response:
        upto = request.query_params.get("upto", "")
        page = self._index.page(
            _filter(request),
            offset=_number(request, "offset", 0, MAX_OFFSET),
            limit=_number(request, "limit", ROWS, MAX_ROWS),
            upto=_hole_id(upto) if upto else None,
        )
        return _json({
            "holes": [row.as_data() for row in page.rows], "total": page.total,
            "upto": told(page.upto) if page.upto >= 0 else "", "newer": page.newer,
            "outcomes": self._index.outcomes(), "kept": len(self._index),
            "edition": self._index.edition,
        })  # fmt: skip

    async def _hole(self, request: Request) -> Response:
        hole_id = _hole_id(request.path_params["hole"])
        found = await self._look(self._looks.hole, hole_id)
        if found is None:
            return _NO_HOLE()
        older, newer = self._index.neighbours(found["source"], hole_id)
        return _json({
            **found,
            "older": None if older is None else told(older),
            "newer": None if newer is None else told(newer),
            "origin": self._origin.rows(found, self._feed.snapshot),
        })  # fmt: skip

    async def _picture(self, request: Request) -> Response:
        found = await self._look(self._looks.picture, _hole_id(request.path_params["hole"]))
        return _NO_HOLE() if found is None else _json(found)

    async def _part(self, request: Request) -> Response:
        hole_id, kind = _hole_id(request.path_params["hole"]), request.path_params["kind"]
        found = await self._look(self._looks.part, hole_id, kind)
        if found is None:
            return _NO_HOLE()
        name, payload = found
        disposition = f'attachment; filename="{name}"'  # only letters, digits, - _ .
        return Response(
            payload, media_type="application/json", headers={"Content-Disposition": disposition}
        )

    async def _tools(self, _: Request) -> Response:
        # once for all browsers: the sums go over every row, and nothing else runs meanwhile
        is_due = time.monotonic() >= self._tools_until_s
        if is_due and self._tools_edition != self._index.edition:
            tools, total = self._index.tools()
            self._tools_told = _json({"tools": tools, "total": total}).body
            self._tools_edition = self._index.edition
            self._tools_until_s = time.monotonic() + TOOLS_EVERY_S
        return Response(self._tools_told, media_type="application/json")

    async def _tool(self, request: Request) -> Response:
        rows = self._index.last_of(_text(request.query_params.get("source", "")), TREND_HOLES)
        if not rows:
            return _told("no hole of this tool is in the list", 404)
        holes = [
            {**row.as_data(), "skew_s": round(row.last_s - row.first_s, 4),
             "is_paired": self._index.is_paired(row)}
            for row in rows
        ]  # fmt: skip
        return _json({"source": rows[0].source, **self._index.summary(rows), "trend": holes})

    async def _levels(self, request: Request) -> Response:
        rows = self._index.last_of(_text(request.query_params.get("source", "")), TREND_HOLES)
        wanted = [row.hole_id for row in rows if row.figures]
        return _json(await self._look(self._looks.levels, wanted))

    async def _dead(self, request: Request) -> Response:
        before = request.query_params.get("before", "")
        limit = _number(request, "limit", ROWS, MAX_ROWS)
        return _json(
            await self._look(self._looks.dead, _hole_id(before) if before else None, limit)
        )

    async def _look(self, look: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, look, *arguments)

    async def _events(self, _: Request) -> Response:
        if self._feed.is_full:
            return _told("too many browsers look on: raise page.max_viewers", 503)
        return EventStream(self._feed)

    # ---- the token ----------------------------------------------------------------------------

    async def _login(self, request: Request) -> Response:
        if self._forms >= MAX_FORMS:
            return _told("too many try at once", 429)
        self._forms += 1
        try:
            token = await token_of(request)
            if token is None or not self._gate.is_token(token):
                await asyncio.sleep(FORM_DELAY_S)
                query = request.url.query
                return RedirectResponse(f"/login{'?' if query else ''}{query}#wrong", 303)
        finally:
            self._forms -= 1
        response = RedirectResponse(way_on(request.query_params.get(NEXT, "")), 303)
        # lax: else a link in a mail or a chat leads to the form; all that it opens only reads
        response.set_cookie(
            self._gate.cookie_name, self._gate.cookie(time.time()), max_age=COOKIE_LIFE_S,
            httponly=True, samesite="lax", secure=request.url.scheme == "https",
        )  # fmt: skip
        return response


def about(index: HoleIndex, viewer: GuardedViewer) -> bytes:
    """What the page is told of this farm's traffic, as JSON; the same for all browsers."""
    columns, levels = (
        [dataclasses.asdict(column) for column in some] for some in (viewer.columns, viewer.levels)
    )
    told_of = {"version": __version__, "outcomes": OUTCOMES, "needs": sorted(index.needs)}
    return orjson.dumps({**told_of, "columns": columns, "levels": levels})


class EventStream(StreamingResponse):
    """The feed to one browser, counted as long as it lasts."""

    def __init__(self, feed: Feed) -> None:
        self._life_s = STREAM_LIFE_S + random.uniform(0, STREAM_JITTER_S)
        super().__init__(
            _for_a_while(feed.stream(), self._life_s),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},  # nginx: pass it on
        )
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        self._feed.joined()
        try:
            async with asyncio.timeout(self._life_s + STREAM_CUT_S):
                await super().__call__(scope, receive, send)
        except TimeoutError:
            pass
        finally:
            self._feed.left()


async def _for_a_while(pieces: AsyncIterator[bytes], life_s: float) -> AsyncIterator[bytes]:
    """As many as come in a time, and then the word to ask again, which is no failure."""
    until_s = time.monotonic() + life_s
    async for piece in pieces:
        yield piece
        if time.monotonic() >= until_s:
            yield AGAIN
            return


def _answered(
    look: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """What can't be answered becomes a sentence."""

    async def answer(request: Request) -> Response:
        try:
            return await look(request)
        except BadRequest as error:
            return _told(str(error), 400)
        except FarmError as error:  # no journal, or one that can't be read now
            return _told(str(error), 503)

    return answer


def _filter(request: Request) -> Filter:
    given = request.query_params
    outcomes = frozenset(filter(None, given.get("outcome", "").split(",")))
    if unknown := outcomes.difference(OUTCOMES):
        raise BadRequest(f"outcome: {min(unknown)!r:.50} is none of {', '.join(OUTCOMES)}")
    quality = given.get("quality", "")
    try:
        below = float(quality) if quality else None
    except ValueError:
        raise BadRequest("quality: must be a number, as 0.9") from None
    return Filter(_text(given.get("q", "")).strip().lower(), _text(given.get("tool", "")), outcomes,
                  below)  # fmt: skip


def _text(given: str) -> str:
    if len(given) > 5 * MAX_TEXT_CHARS:
        raise BadRequest("a text is too long")
    return given


def _number(request: Request, name: str, default: int, most: int) -> int:
    given = request.query_params.get(name, "")
    if not given:
        return default
    if not (given.isascii() and given.isdecimal() and len(given) < 12 and int(given) <= most):
        raise BadRequest(f"{name}: must be a whole number, at most {most}")
    return int(given)


def _hole_id(given: str) -> int:
    try:
        return asked(given)
    except ValueError:
        raise BadRequest("a hole's id looks like 8123-42") from None


def _json(data: Any) -> Response:
    return Response(
        orjson.dumps(data, default=_plain, option=orjson.OPT_NON_STR_KEYS | _NUMPY),
        media_type="application/json",
    )


def _plain(value: Any) -> Any:
    """What JSON has no word for: a viewer may give any sequence, a model any value."""
    is_sequence = isinstance(value, Sequence) and not isinstance(value, bytes | bytearray)
    return list(value) if is_sequence else repr(value)


def _told(sentence: str, status: int) -> Response:
    return Response(
        orjson.dumps({"problem": sentence}), status_code=status, media_type="application/json"
    )


def _NO_HOLE() -> Response:  # noqa: N802 - a constant but for its type
    return _told("the journal has no such hole: it keeps them for journal.keep_s", 404)
