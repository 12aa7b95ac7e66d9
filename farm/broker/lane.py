"""The `Lane`: a connection's socket, with a way past the MQTT client for what comes in thousands.

paho holds the connection: CONNECT, TLS, subscriptions, keepalive, DISCONNECT. It would handle each
PUBLISH and PUBACK with five system calls and five copies. They don't pass through it: what one read
brings is cut into packets here, and what is to be sent leaves in one write. To paho the lane is a
socket in which only the rest is found. docs/performance.md has the figures.

One thread calls `fill` and lets paho `recv`; any thread may `send`.
"""

from __future__ import annotations

import contextlib
import select
import ssl
import threading
import time
from typing import TYPE_CHECKING, Protocol

from farm.broker import packets

if TYPE_CHECKING:
    import socket

READ_BYTES = 1 << 19  # one read takes what lies ready: a full one is about two of the largest holes
GROWTH = 4  # of the room for a packet that is larger: few copies, and few bytes that nobody needs
_TRAFFIC = (packets.PUBLISH, packets.PUBACK)
# Of a PUBLISH before its payload: a topic has up to 65 535 bytes, and somebody may add properties.
HEAD_BYTES = 140_000
LAST_WRITE_S = 0.5  # for what is still to be sent when the connection is closed


class Receiver(Protocol):
    """Who is told of what came on the lane; called by the thread that fills it."""

    def published(self, packet: packets.Publish) -> None:
        """A PUBLISH came."""

    def confirmed(self, mid: int, reason: int) -> bool:
        """A PUBACK came. False: the publication was not sent by this lane, but by the client."""


class Lane:
    """See the module; made of a connected socket, plain or TLS.

    Args:
        sock: the socket.
        receiver: is told of what came.
        v5: whether MQTT 5 is spoken.
        max_payload_bytes: of a larger payload no more than this and `HEAD_BYTES` is kept in memory,
            enough to see that it is too large; what follows is read and let go of.
    """

    def __init__(
        self,
        sock: socket.socket,
        receiver: Receiver,
        *,
        v5: bool,
        max_payload_bytes: int = packets.MAX_REMAINING_LENGTH,
    ) -> None:
        self._max_body_bytes = max_payload_bytes + HEAD_BYTES
        self._to_skip = 0  # bytes of a packet that is too large, still to come
        self._sock = sock
        self._receiver = receiver
        self._v5 = v5
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        self._buffer = bytearray(READ_BYTES)
        self._filled = 0  # bytes at its begin that are not cut into packets yet
        self._for_client = bytearray()  # packets that are paho's
        self._lock = threading.Lock()  # guards what is to be sent
        self._unsent: list[bytes] = []
        self._half_sent = memoryview(b"")
        self._is_at_end = False
        self.is_welcome = False  # CONNACK was read: from then on messages are taken
        self.is_open = True

    # ---- what paho takes for a socket ---------------------------------------------------------

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes of the packets that are paho's; b"" once the peer has closed.

        Raises:
            BlockingIOError: there are none now.
        """
        taken = bytes(self._for_client[:size])
        if not taken and not self._is_at_end:
            raise BlockingIOError
        del self._for_client[:size]
        return taken

    def send(self, packet: bytes) -> int:
        """Have whole packets sent with the next `flush`; returns their length."""
        with self._lock:
            if not self.is_open:
                raise ConnectionError("the connection is closed")
            self._unsent.append(bytes(packet))
        return len(packet)

    def fileno(self) -> int:
        """To poll on."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """As a socket has it."""
        self._sock.setblocking(flag)

    def setsockopt(self, level: int, name: int, value: int) -> None:
        """As a socket has it."""
        self._sock.setsockopt(level, name, value)

    def close(self) -> None:
        """Send what is still to be sent, as far as that goes in `LAST_WRITE_S`, and close."""
        give_up_s = time.monotonic() + LAST_WRITE_S
        with contextlib.suppress(OSError, ValueError):  # it is broken, or closed already
            while not self.flush() and (left_s := give_up_s - time.monotonic()) > 0:
                poll = select.poll()  # not select, which knows descriptors below 1024 only
                poll.register(self._sock.fileno(), select.POLLOUT)
                poll.poll(1000 * left_s)
        with self._lock:
            self.is_open = False
            self._sock.close()

    # ---- for the connection's thread ----------------------------------------------------------

    @property
    def has_packets_for_client(self) -> bool:
        """Whether paho has something to read: a packet of its own, or the end of the connection."""
        return bool(self._for_client) or self._is_at_end

    def fill(self) -> None:
        """Read what lies ready, and tell the receiver of the packets in it.

        Raises:
            OSError: the connection is lost.
            PacketError: what came is no MQTT.
        """
        while self._filled < len(self._buffer):  # else the client must read first, see `cut`
            space = memoryview(self._buffer)[self._filled :]
            try:
                count = self._sock.recv_into(space)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            finally:
                space.release()
            if not count:
                self._is_at_end = True
                return
            self._filled += count
            self.cut()
            # A poll tells of a socket that has more; what TLS has deciphered already it can't see.
            if not (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()):
                return

    def cut(self) -> None:
        """Cut what was read into packets. Call it again once the client has read its own.

        Messages may come in one read with CONNACK. They wait until the client has looked at that:
        before, nobody knows whether the session goes on, and no acknowledgement could be sent.
        """
        end, needed = self._filled, 0
        at = min(self._to_skip, end)
        self._to_skip -= at
        with memoryview(self._buffer) as view:
            while at < end and (self.is_welcome or view[at] & packets.TYPE_MASK not in _TRAFFIC):
                span = packets.frame(view, at, end)
                if span is None:
                    break
                body, after = span
                if after - body > self._max_body_bytes:
                    kept = body + self._max_body_bytes
                    if kept > end:
                        needed = kept - at
                        break
                    self._take_begin(view, at, body, kept)
                    self._to_skip = max(0, after - end)
                    at = min(after, end)
                    continue
                if after > end:
                    needed = after - at
                    break
                self._take(view, at, body, after)
                at = after
        self._keep(at, needed)

    def _keep(self, start: int, needed: int) -> None:
        """Go on with what is not cut yet: it begins at `start` and will have `needed` bytes.

        The room grows with what has come, never with what a packet's length announces: five bytes
        would take a quarter of a gigabyte.
        """
        left, size = self._filled - start, len(self._buffer)
        if needed > size == left:
            size = min(needed, GROWTH * size)
        elif needed <= READ_BYTES < size:
            size = READ_BYTES
        if size != len(self._buffer):
            former, self._buffer = self._buffer, bytearray(size)
            self._buffer[:left] = former[start : self._filled]
        elif start and left:
            self._buffer[:left] = self._buffer[start : self._filled]
        self._filled = left

    def _take(self, view: memoryview, at: int, body: int, after: int) -> None:
        """One whole packet: `at` is its first byte, `body` the first behind its length."""
        first_byte = view[at]
        kind = first_byte & packets.TYPE_MASK
        if kind == packets.PUBLISH:
            self._receiver.published(
                packets.read_publish(first_byte, view, body, after, v5=self._v5)
            )
        elif kind != packets.PUBACK or not self._receiver.confirmed(
            *packets.read_puback(view, body, after)
        ):
            self._for_client += view[at:after]

    def _take_begin(self, view: memoryview, at: int, body: int, kept: int) -> None:
        """The begin of a packet that is too large.

        Raises:
            PacketError: it is no PUBLISH; no other is as long as that.
        """
        first_byte = view[at]
        if first_byte & packets.TYPE_MASK != packets.PUBLISH:
            raise packets.PacketError(f"a packet of kind 0x{first_byte:02X} that has no end")
        self._receiver.published(
            packets.read_publish(first_byte, view, body, kept, v5=self._v5, is_cut=True)
        )

    # ---- sending ------------------------------------------------------------------------------

    @property
    def has_unsent(self) -> bool:
        """Whether something is left that the socket did not take yet."""
        return bool(self._unsent or self._half_sent)

    @property
    def may_flush_anywhere(self) -> bool:
        """Whether `flush` is for any thread: TLS must not be read and written at once by two."""
        return not self._is_tls

    def flush(self) -> bool:
        """Send all that is to be sent, in one call; False: the socket is full, poll until it isn't.

        Raises:
            OSError: the connection is lost.
        """
        with self._lock:
            while self._half_sent or self._unsent:
                if not self._half_sent:
                    self._half_sent = memoryview(b"".join(self._unsent))
                    self._unsent.clear()
                try:
                    sent = self._sock.send(self._half_sent)
                except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    return False
                self._half_sent = self._half_sent[sent:]
            return True


class LanePoll:
    """Waits for a lane, and for the descriptor of a waker."""

    def __init__(self, lane: Lane, waker_fd: int) -> None:
        self._lane = lane
        self._fd = lane.fileno()
        self._poll = select.poll()
        self._poll.register(waker_fd, select.POLLIN)

    def wait(self, timeout_s: float) -> bool:
        """Until something is to be done; returns whether something is to be read."""
        wanted = select.POLLIN | (select.POLLOUT if self._lane.has_unsent else 0)
        self._poll.register(self._fd, wanted)
        found = dict(self._poll.poll(1000 * timeout_s))
        return bool(found.get(self._fd, 0) & ~select.POLLOUT)
