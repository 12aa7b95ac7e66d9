"""Every ZeroMQ socket of `farm`, in one table. Nothing else creates or configures one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import zmq

from farm.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Credit keeps at most as many unclaimed messages on the wire as there are idle workers, so the
# high-water marks only guard against our own mistakes; 0 (unbounded) would hide them.
JOBS_HWM = 1000
RESULTS_HWM = 10_000
CONTROL_HWM = 1000

RESULTS_LINGER_MS = 2000  # a leaving worker's last result still goes out
MAX_FRAME_BYTES = 64_000_000  # per frame; an honest part is bounded by limits.message_bytes

# As plain numbers: pyzmq's own `send_multipart` combines two of its enums anew for each frame, and
# that takes as long as sending a small one.
_AT_ONCE = int(zmq.NOBLOCK)
_AT_ONCE_WITH_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)


@dataclass(frozen=True, slots=True)
class _Kind:
    zmq_type: int
    binds: bool
    hwm: int
    linger_ms: int


class Role(Enum):
    """The end of a socket that a process holds."""

    JOBS_SENDER = _Kind(zmq.PUSH, binds=True, hwm=JOBS_HWM, linger_ms=0)
    JOBS_RECEIVER = _Kind(zmq.PULL, binds=False, hwm=JOBS_HWM, linger_ms=0)
    RESULTS_RECEIVER = _Kind(zmq.PULL, binds=True, hwm=RESULTS_HWM, linger_ms=0)
    RESULTS_SENDER = _Kind(zmq.PUSH, binds=False, hwm=RESULTS_HWM, linger_ms=RESULTS_LINGER_MS)
    CONTROL_SERVER = _Kind(zmq.ROUTER, binds=True, hwm=CONTROL_HWM, linger_ms=0)
    CONTROL_CLIENT = _Kind(zmq.DEALER, binds=False, hwm=CONTROL_HWM, linger_ms=200)


def open_socket(
    context: zmq.Context[zmq.Socket[bytes]], role: Role, endpoint: str
) -> zmq.Socket[bytes]:
    """A socket in its role, bound or connected.

    Raises:
        StateError: the endpoint can't be bound; the message says why and what to do.
    """
    kind = role.value
    socket = context.socket(kind.zmq_type)
    socket.set_hwm(kind.hwm)
    socket.linger = kind.linger_ms
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 200)  # workers wait for a broker that starts
    try:
        if kind.binds:
            socket.bind(endpoint)
        else:
            socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close(0)
        raise StateError(
            f"can't open {endpoint}: {error.strerror}. Free the address, or set another one "
            "under `dispatch:`"
        ) from error
    return socket


def send_at_once(socket: zmq.Socket[bytes], frames: Sequence[bytes]) -> None:
    """Send one message of these frames, at least one, without waiting.

    Raises:
        zmq.Again: nobody is connected, or the queue is full; nothing of it was sent.
    """
    for frame in frames[:-1]:  # what is refused is refused with the first one
        socket.send(frame, _AT_ONCE_WITH_MORE)
    socket.send(frames[-1], _AT_ONCE)
