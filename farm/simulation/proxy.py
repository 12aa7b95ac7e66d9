"""A TCP proxy that can be a bad network between two parties: cut, slow, or half-open.

Owns the bytes on their way and a record of the connections; knows nothing of MQTT. Runs on loopback
in a thread of its own; its methods may be called from any thread.

A connection that was black once stays black: the peers of a half-open connection have lost each
other for good, and must find it out themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    _Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

T = TypeVar("T")

LOOPBACK = "127.0.0.1"
CHUNK_BYTES = 65_536
# Chunks of one direction that may wait for their delay; beyond it the sender is held up by TCP.
# At 200 ms and 5 MB/s some 16 are on the way.
MAX_CHUNKS = 256
ANSWER_TIMEOUT_S = 10.0  # of the proxy's own thread, which has little to do


@dataclass(slots=True)
class Passage:
    """One connection through the proxy; times are monotonic."""

    opened_s: float
    ended_s: float | None = None  # when it was cut, went black, or one side closed it
    is_black: bool = field(default=False, repr=False)

    @property
    def is_stillborn(self) -> bool:
        """It was black from its beginning."""
        return self.is_black and self.ended_s == self.opened_s

    def end(self) -> None:
        """It is of no use from now on; the first time counts."""
        if self.ended_s is None:
            self.ended_s = time.monotonic()


class FaultyProxy:
    """See the module. A context manager.

    Args:
        host: where to pass connections on to.
        port: likewise.

    Attributes:
        port: where it listens itself, once started.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self.port = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self._passages: list[Passage] = []
        self._delay_s = 0.0
        self._is_black = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Listen on a free port; returns once it does.

        Raises:
            OSError: no port can be had.
        """
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._accepted, LOOPBACK, 0))
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Cut everything and end the thread. Doing it twice does no harm."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        stopped = asyncio.run_coroutine_threadsafe(self._stop(), loop)
        stopped.result(ANSWER_TIMEOUT_S)
        loop.call_soon_threadsafe(loop.stop)
        if self._thread is not None:
            self._thread.join(ANSWER_TIMEOUT_S)
        loop.close()

    def cut(self) -> None:
        """End every connection at once, on both sides; new ones are welcome."""
        self._call(self._cut)

    def delay(self, seconds: float) -> None:
        """Let every byte wait so long in each direction, until `heal`. Order is kept."""
        self._delay_s = seconds

    def blackhole(self) -> None:
        """Swallow all bytes of the present and of new connections, and close none; until `heal`."""
        self._is_black = True
        self._call(self._blacken)

    def heal(self) -> None:
        """A good network again. Connections that were black remain so."""
        self._delay_s = 0.0
        self._is_black = False

    def passages(self) -> list[Passage]:
        """The connections so far, oldest first."""
        return [Passage(p.opened_s, p.ended_s, p.is_black) for p in list(self._passages)]

    # ---- the thread -------------------------------------------------------------------------

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        now_s = time.monotonic()
        passage = Passage(now_s, now_s if self._is_black else None, self._is_black)
        try:
            far = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()  # as if nobody listened
            return
        self._passages.append(passage)
        pair = _Pair((reader, writer), far, passage, delay_s=lambda: self._delay_s)
        self._pairs.add(pair)
        try:
            await pair.run()
        finally:
            self._pairs.discard(pair)

    def _cut(self) -> None:
        for pair in self._pairs:
            pair.passage.end()
            pair.abort()

    def _blacken(self) -> None:
        for pair in self._pairs:
            pair.passage.end()
            pair.passage.is_black = True

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _call(self, action: Callable[[], None]) -> None:
        """Run it in the thread and wait: what follows a fault must find it in force."""

        async def run() -> None:  # only a coroutine can be waited for
            action()

        self._run(run())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(ANSWER_TIMEOUT_S)


class _Pair:
    """Both directions of one connection.

    Args:
        near: the streams to who connected.
        far: the streams to the target.
        passage: what is known of it outside.
        delay_s: how long a chunk read now has to wait.
    """

    def __init__(
        self,
        near: _Streams,
        far: _Streams,
        passage: Passage,
        *,
        delay_s: Callable[[], float],
    ) -> None:
        self._near = near
        self._far = far
        self._delay_s = delay_s
        self.passage = passage

    async def run(self) -> None:
        """Pass on until both sides have ended."""
        try:
            await asyncio.gather(
                self._one_way(self._near[0], self._far[1]),
                self._one_way(self._far[0], self._near[1]),
            )
        finally:
            self.passage.end()
            self.abort()

    def abort(self) -> None:
        """Reset both connections."""
        for _, writer in (self._near, self._far):
            writer.transport.abort()

    async def _one_way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MAX_CHUNKS)
        sender = asyncio.create_task(self._send(waiting, writer))
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(CHUNK_BYTES):
                    if not self.passage.is_black:
                        await waiting.put((time.monotonic() + self._delay_s(), data))
            if not self.passage.is_black:
                await waiting.put((time.monotonic() + self._delay_s(), b""))
                await sender
            # Who closes a half-open connection closes its own end alone: the other hears nothing.
        finally:
            sender.cancel()

    async def _send(
        self, waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while True:
                due_s, data = await waiting.get()
                if (wait_s := due_s - time.monotonic()) > 0:
                    await asyncio.sleep(wait_s)
                if self.passage.is_black:
                    continue
                if not data:
                    break
                writer.write(data)
                await writer.drain()
        self.passage.end()
        writer.close()
