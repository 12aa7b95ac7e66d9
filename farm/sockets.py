"""Every ZeroMQ socket of `farm`, in one table. Nothing else creates or configures one.

Sockets on this machine are ipc files in a folder of 0700, or on loopback. What listens beyond it is
a *door*: the same socket bound once more, with CURVE (RFC 26), so that only a known key comes in.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import zmq

from farm.errors import StateError
from farm.wire import MAX_HEAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from farm.doors.keyring import KeyPair

# Credit keeps at most as many unclaimed messages on the wire as there are idle workers, so the
# high-water marks only guard against our own mistakes; 0 (unbounded) would hide them.
JOBS_HWM = 1000
RESULTS_HWM = 10_000
CONTROL_HWM = 1000

RESULTS_LINGER_MS = 2000  # a leaving worker's last result still goes out
# Who sends a larger frame is disconnected by libzmq, before it is in memory.
CURVE_BYTES = 1000  # what encryption adds is 33
MAX_FRAME_BYTES = MAX_HEAD_BYTES + CURVE_BYTES
MAX_PART_BYTES = 64_000_000 + CURVE_BYTES  # of a job: the most that limits.message_bytes can be
# A cable that was cut tells nobody: whoever is silent for so long is gone (RFC 37 ZMTP, PING).
PING_EVERY_MS = 2000
PING_TIMEOUT_MS = 8000
HANDSHAKE_MS = 10_000
RECONNECT_FAR_MS = 5000  # longest pause between two tries to reach another machine
ZAP_DOMAIN = b"farm"
# What waits for one far worker: more would only grow old behind a thin line, in our memory.
FAR_JOBS_HWM = 3
FAR_REPLIES_HWM = 20

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
    max_frame_bytes: int = MAX_FRAME_BYTES  # that it takes


class Role(Enum):
    """The end of a socket that a process holds."""

    JOBS_SENDER = _Kind(zmq.PUSH, binds=True, hwm=JOBS_HWM, linger_ms=0)
    JOBS_RECEIVER = _Kind(
        zmq.PULL, binds=False, hwm=JOBS_HWM, linger_ms=0, max_frame_bytes=MAX_PART_BYTES
    )
    RESULTS_RECEIVER = _Kind(zmq.PULL, binds=True, hwm=RESULTS_HWM, linger_ms=0)
    RESULTS_SENDER = _Kind(zmq.PUSH, binds=False, hwm=RESULTS_HWM, linger_ms=RESULTS_LINGER_MS)
    CONTROL_SERVER = _Kind(zmq.ROUTER, binds=True, hwm=CONTROL_HWM, linger_ms=0)
    CONTROL_CLIENT = _Kind(zmq.DEALER, binds=False, hwm=CONTROL_HWM, linger_ms=200)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a worker shows at a door, and how it knows the farm."""

    pair: KeyPair
    farm_key: str  # the farm's public key


def open_socket(
    context: zmq.Context[zmq.Socket[bytes]],
    role: Role,
    endpoint: str,
    credentials: Credentials | None = None,
) -> zmq.Socket[bytes]:
    """A socket in its role, bound or connected; with credentials, to a door.

    Raises:
        StateError: the endpoint can't be bound; the message says why and what to do.
    """
    kind = role.value
    socket = context.socket(kind.zmq_type)
    socket.set_hwm(kind.hwm)
    socket.linger = kind.linger_ms
    socket.setsockopt(zmq.MAXMSGSIZE, kind.max_frame_bytes)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 200)  # workers wait for a broker that starts
    if credentials is not None:
        _expect_a_network(socket)
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_FAR_MS)
        socket.curve_serverkey = credentials.farm_key.encode("ascii")
        socket.curve_publickey = credentials.pair.public.encode("ascii")
        socket.curve_secretkey = credentials.pair.secret.encode("ascii")
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


def open_door(socket: zmq.Socket[bytes], endpoint: str, farm_key: KeyPair, *, send_hwm: int) -> str:
    """Bind a socket once more, for other machines: only keys that the doorkeeper knows come in.

    What was bound before stays as it is: libzmq's options hold for later bindings.

    Args:
        socket: one of the broker's.
        endpoint: tcp://ADDRESS:PORT, or * for all addresses.
        farm_key: ours.
        send_hwm: messages that may wait for one peer.

    Returns:
        The endpoint as libzmq has it, for `shut_door`.

    Raises:
        StateError: the endpoint can't be bound; the message says why and what to do.
    """
    _expect_a_network(socket)
    socket.setsockopt(zmq.IPV6, int("[" in endpoint))
    socket.sndhwm = send_hwm
    socket.curve_server = True
    socket.curve_publickey = farm_key.public.encode("ascii")
    socket.curve_secretkey = farm_key.secret.encode("ascii")
    socket.zap_domain = ZAP_DOMAIN
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise StateError(
            f"can't listen at {endpoint}: {error.strerror}. Free the port, or set another one in "
            "attach.listen"
        ) from error
    bound = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(bound, bytes)
    return bound.decode("ascii")


def shut_door(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Close every connection that came through a door, and let nobody else in; see `reopen_door`.

    libzmq does it in its own time, and only while the socket is looked at now and then.
    """
    socket.unbind(endpoint)


def reopen_door(socket: zmq.Socket[bytes], endpoint: str) -> bool:
    """Open a door that was shut; False: it can't be now, and may be later.

    The port is not free yet, the address is gone with its cable, or there are no descriptors.
    """
    try:
        # without a descriptor to spare, libzmq ends the process
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        socket.bind(endpoint)
    except (zmq.ZMQError, OSError):
        return False
    return True


def receive(socket: zmq.Socket[bytes]) -> tuple[str, list[bytes]]:
    """The next message, and who sent it: the name of its key; "" from this machine.

    Raises:
        zmq.Again: there is none now.
    """
    frames = socket.recv_multipart(zmq.NOBLOCK, copy=False)
    try:
        peer = str(frames[-1].get("User-Id"))
    except zmq.ZMQError:  # came through no door
        peer = ""
    return peer, [frame.bytes for frame in frames]


def _expect_a_network(socket: zmq.Socket[bytes]) -> None:
    socket.setsockopt(zmq.HEARTBEAT_IVL, PING_EVERY_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, PING_TIMEOUT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TTL, PING_TIMEOUT_MS)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)


def send_at_once(socket: zmq.Socket[bytes], frames: Sequence[bytes]) -> None:
    """Send one message of these frames, at least one, without waiting.

    Raises:
        zmq.Again: nobody is connected, or the queue is full; nothing of it will arrive.
    """
    for frame in frames[:-1]:
        socket.send(frame, _AT_ONCE_WITH_MORE)
    socket.send(frames[-1], _AT_ONCE)
