"""The page's process: one loop that serves, one thread that asks the broker, some that read.

A thin shell. What goes wrong here, or with the broker, never reaches the other: it reads the
journal by itself, and asks the control socket like any command.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from farm import log
from farm.adapter import Need, load_adapter
from farm.config.listening import ALL
from farm.errors import ExitCode, FarmError
from farm.journal.ids import told
from farm.journal.tail import PIECE
from farm.page.app import Site, about
from farm.page.asking import Asker
from farm.page.feed import Feed
from farm.page.following import MAX_ASKED, Follower, Seen
from farm.page.gate import Gate
from farm.page.index import HoleIndex
from farm.page.looks import Looks
from farm.page.origin import Origin
from farm.page.statics import Statics
from farm.token_file import read_token
from farm.viewer import viewer_of

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from starlette.types import ASGIApp

    from farm.config import Config

TICK_S: Final = 1.0  # while somebody looks on
IDLE_TICK_S: Final = 5.0  # else: so that there is a history when somebody comes
READERS: Final = 3  # looks into the journal at once; further ones wait
BACKLOG: Final = 128  # connections that wait to be accepted
SPARE_CONNECTIONS: Final = 64  # beside the streams
STOP_TIMEOUT_S: Final = 2


class PageProcess:
    """See the module.

    Args:
        config: all of it; `page.listen` is where to serve.
        state_dir: of the farm.
        control_endpoint: of its broker.
        config_file: where `config` was read; None: all is default.

    Raises:
        ConfigError: the adapter or the token can't be had.
        FarmError: the address can't be listened at.
    """

    def __init__(
        self,
        config: Config,
        *,
        state_dir: Path,
        control_endpoint: str,
        config_file: Path | None = None,
    ) -> None:
        page = config.page
        token_file = page.token_file
        token = None if token_file is None else read_token("page.token_file", token_file)
        gate = Gate(token, page.host)
        adapter = load_adapter(config)
        viewer = viewer_of(adapter)
        needs = frozenset(kind for kind, need in adapter.needs.items() if need is Need.REQUIRED)
        self._socket = _listen(page.host, page.port)
        # a browser that outlives this process must not take our count for that of the next
        name = secrets.token_hex(4)
        self._index = HoleIndex(page.keep_holes, needs, viewer.figures, name)
        self._follower = Follower(state_dir, page.keep_holes)
        self._seen = Seen()
        self._feed = Feed(page.max_viewers, self._journal)
        self._asker_thread = ThreadPoolExecutor(1, "asker")
        self._endpoint = control_endpoint
        self._asker: Asker | None = None  # made in its thread
        self._readers = ThreadPoolExecutor(READERS, "reader")
        site = Site(
            index=self._index,
            looks=Looks(state_dir, viewer, self._story),
            feed=self._feed,
            gate=gate,
            statics=Statics(about(self._index, viewer)),
            executor=self._readers,
            origin=Origin(config, state_dir, config_file),
        )
        self._server = _Server(_server_config(site.app(), page.max_viewers), self._feed)
        self.address = f"http://{page.listen}/"

    def run(self) -> ExitCode:
        """Serve until told to stop; returns the exit code."""
        with contextlib.closing(self._socket):
            asyncio.run(self._run())
        self._readers.shutdown(wait=False, cancel_futures=True)
        return ExitCode.OK

    async def _run(self) -> None:
        # uvicorn raises again, in the end, the signal that it has obeyed
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        ticking = asyncio.create_task(self._tick_on())
        log.get().info("page_served", address=self.address)
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticking
            await asyncio.get_running_loop().run_in_executor(self._asker_thread, self._leave)

    # ---- once a second ------------------------------------------------------------------------

    async def _tick_on(self) -> None:
        next_s = time.monotonic()
        while True:
            try:
                await self._tick()
            # a fault of ours in one second must not leave the page as it is for ever
            except Exception:  # noqa: BLE001 - see above
                log.get().exception("page_tick_failed")
            next_s = max(next_s + TICK_S, time.monotonic())
            if not self._seen.is_behind:
                await asyncio.sleep(next_s - time.monotonic())
            if not self._feed.viewers:  # nobody looks on
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._feed.came.wait(), IDLE_TICK_S - TICK_S)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        # both at a time: the one may wait for a broker that is gone
        asking = loop.run_in_executor(self._asker_thread, self._ask)
        await self._follow()
        snapshot, problem = await asking
        self._feed.take(snapshot, time.time(), problem)
        await self._feed.publish(time.time())

    async def _follow(self) -> None:
        index = self._index
        look = functools.partial(
            self._follower.look, after=index.newest_id, asked=index.unfinished(MAX_ASKED),
            known=index.in_turn(PIECE),
        )  # fmt: skip
        self._seen = seen = await asyncio.get_running_loop().run_in_executor(self._readers, look)
        if seen.is_other:
            index.clear()
        for piece in seen.pieces:
            index.put(piece)
            await asyncio.sleep(0)  # requests in between
        index.forget(seen.gone)

    def _ask(self) -> tuple[dict[str, Any] | None, str]:
        if self._asker is None:
            self._asker = Asker(self._endpoint)
        return self._asker.snapshot(), self._asker.problem

    def _story(self, source: str, part_id: str, hole: str) -> list[Any] | None:
        def ask() -> list[Any] | None:
            return None if self._asker is None else self._asker.story(source, part_id, hole)

        if self._feed.is_silent:  # nobody to ask: who opens the hole need not wait for that
            return None
        return self._asker_thread.submit(ask).result()

    def _leave(self) -> None:
        if self._asker is not None:
            self._asker.close()

    def _journal(self) -> dict[str, Any]:
        newest = self._index.newest_id
        return {
            "edition": self._index.edition,
            "newest": told(newest) if newest >= 0 else "",
            "kept": len(self._index),
            "problem": self._seen.problem,
        }


class _Server(uvicorn.Server):
    """One that ends its streams when it is told to stop, instead of waiting for them."""

    def __init__(self, config: uvicorn.Config, feed: Feed) -> None:
        super().__init__(config)
        self._feed = feed

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal has come."""
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """The end."""
        await self._feed.close()
        await super().shutdown(sockets)


def _server_config(app: ASGIApp, max_viewers: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        limit_concurrency=max_viewers + SPARE_CONNECTIONS,
        timeout_graceful_shutdown=STOP_TIMEOUT_S,
        backlog=BACKLOG,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(("" if host == ALL else host, port))
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise FarmError(
            f"the page can't be served at {host}:{port}: {error.strerror}: choose another "
            "page.listen (--listen), or end what listens there"
        ) from error
    return made
