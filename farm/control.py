"""Asking the broker: the client end of the control socket, for workers, supervisor and commands.

At most one request is outstanding. A request that gets no reply in time is dropped together with
its socket, so that a broker that comes back is not flooded with stale ones.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import time
from typing import TYPE_CHECKING, Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from farm import wire
from farm.errors import FarmError, NoFarmError, WireError
from farm.sockets import Role, open_socket, send_at_once

if TYPE_CHECKING:
    from farm.sockets import Credentials


# What libzmq tells of a handshake that failed (RFC 26 CurveZMQ, RFC 27 ZAP), in words.
_FAILURES: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the farm does not know this worker's key, or it was revoked: "
    "ask for a new invite (`farm keys new`)",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "what answers there has another key than the invite says, "
    "or is no farm",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "what answers there has another key than the invite says,"
    " or is no farm",
    zmq.EVENT_CONNECT_RETRIED: "nobody listens there, or the way there is cut",
    zmq.EVENT_HANDSHAKE_SUCCEEDED: "",
}


class ControlClient:
    """One requester. Not for more than one thread."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        *,
        timeout_s: float,
        credentials: Credentials | None = None,
    ) -> None:
        self._credentials = credentials
        self._context = context
        self._endpoint = endpoint
        self.timeout_s = timeout_s
        self._asked_s: float | None = None
        self._events: zmq.Socket[bytes] | None = None
        self._why = ""
        self.socket = self._open()

    @property
    def is_free(self) -> bool:
        """Whether a request may be sent now."""
        return self._asked_s is None

    def send(self, request: wire.Message) -> None:
        """Send a request; look for the reply with `receive`."""
        assert self._asked_s is None  # one at a time
        self._asked_s = time.monotonic()
        # Behind a door that does not open there is nobody to send to: it stays unanswered then.
        with contextlib.suppress(zmq.Again):
            send_at_once(self.socket, [b"", wire.encode(request)])

    def receive(self) -> wire.Message | None:
        """The reply if it is there.

        Raises:
            WireError: the reply is malformed.
        """
        try:
            frames = self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        self._asked_s = None
        return wire.decode([frame for frame in frames if frame])

    def give_up_if_late(self) -> bool:
        """Drop a request that is unanswered for too long; True when that was done."""
        if self._asked_s is None or time.monotonic() - self._asked_s < self.timeout_s:
            return False
        self.reset()
        return True

    def reset(self) -> None:
        """Forget the outstanding request: whoever should answer it is gone."""
        self.close()
        self.socket = self._open()
        self._asked_s = None

    def why_silent(self) -> str:
        """Why the door at the other end does not open, as far as can be known; else ""."""
        while self._events is not None and self._events.poll(0):
            event = recv_monitor_message(self._events)["event"]
            # after each handshake that failed comes a retry, too, which tells less
            if event != zmq.EVENT_CONNECT_RETRIED or not self._why:
                self._why = _FAILURES.get(event, self._why)
        return self._why

    def close(self) -> None:
        """Close the socket; an unsent request goes with it."""
        if self._events is not None:
            self.socket.disable_monitor()
            self._events = None
        self.socket.close(0)

    def _open(self) -> zmq.Socket[bytes]:
        self._why = ""
        made = open_socket(self._context, Role.CONTROL_CLIENT, self._endpoint, self._credentials)
        if self._credentials is not None:
            self._events = made.get_monitor_socket(functools.reduce(operator.or_, _FAILURES))
        return made


def ask(endpoint: str, request: wire.Message, *, timeout_s: float) -> wire.Message:
    """One request and its reply, for commands.

    Raises:
        NoFarmError: nobody answers in time.
        FarmError: the broker refuses.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        client = ControlClient(context, endpoint, timeout_s=timeout_s)
        client.send(request)
        if not client.socket.poll(int(timeout_s * 1000)):
            raise NoFarmError(
                f"no farm answers at {endpoint}. Start one with `farm start`, or name its place "
                "with --state-dir or --config"
            )
        reply = client.receive()
    except WireError as error:
        raise FarmError(f"the farm at {endpoint} is of another version: {error}") from error
    finally:
        context.destroy(linger=0)
    if isinstance(reply, wire.Refused):
        raise FarmError(f"the farm refused: {reply.reason}")
    assert reply is not None
    return reply


def fetch_stats(endpoint: str, *, timeout_s: float = 2.0) -> dict[str, Any]:
    """The snapshot of a running farm (see `farm.broker.snapshot`).

    Raises:
        NoFarmError: nobody answers in time.
    """
    reply = ask(endpoint, wire.StatsRequest(), timeout_s=timeout_s)
    if not isinstance(reply, wire.StatsReply):
        raise FarmError(f"the farm at {endpoint} answered with {type(reply).__name__}")
    return reply.snapshot
