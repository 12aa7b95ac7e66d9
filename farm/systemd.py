"""What a process tells systemd of itself: that it is up, reloads, stops, how it is, that it lives.

The protocol of sd_notify(3): a datagram of lines to the socket in NOTIFY_SOCKET. Where there is
none, nobody is told anything. `Service` decides what to say when; `of_environment` has the socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
EXTEND_EVERY_S: Final = 5.0
EXTEND_BY_S: Final = 30.0  # a start or a stop that is silent for so long hangs
STATUS_EVERY_S: Final = 1.0
PINGS_PER_WATCHDOG: Final = 3.0  # one may come late, and one may get lost
MAX_STATUS_CHARS: Final = 300


class State(Enum):
    """How far a service is."""

    STARTING = "starting"
    UP = "up"
    RELOADING = "reloading"
    STOPPING = "stopping"


class Service:
    """See the module. Times are monotonic seconds.

    Args:
        send: says a message; whether it was taken. None: nobody listens.
        watchdog_s: so long after a sign of life systemd takes this process for hung; 0: never.
    """

    def __init__(self, send: Callable[[str], bool] | None = None, watchdog_s: float = 0.0) -> None:
        self._send = send
        self._ping_every_s = watchdog_s / PINGS_PER_WATCHDOG
        self._state = State.STARTING
        self._status = ""
        self._next_extension_s = float("-inf")
        self._next_status_s = float("-inf")
        self._next_ping_s = float("-inf")

    @property
    def is_on(self) -> bool:
        """Whether anybody listens."""
        return self._send is not None

    def tick(self, now_s: float, state: State, *, status: str = "", is_well: bool = True) -> None:
        """Say what has changed, and what is due. Call it several times a second.

        Args:
            now_s: the time.
            state: how far the service is.
            status: one line for `systemctl status`.
            is_well: whether the work goes on; else no sign of life is given, nor time asked for.
        """
        if self._send is None:
            return
        if state is not self._state and self._send(_words(state, now_s)):
            self._state = state
        # It may wait for MQTT or for a farm for hours, which is no failure to start, and finish
        # what is open for longer than TimeoutStopSec, which is no failure to stop.
        is_on_its_way = self._state in (State.STARTING, State.STOPPING)
        if is_on_its_way and is_well and now_s >= self._next_extension_s:
            self._next_extension_s = now_s + EXTEND_EVERY_S
            self._send(f"EXTEND_TIMEOUT_USEC={int(EXTEND_BY_S * 1e6)}")
        line = " ".join(status.split())[:MAX_STATUS_CHARS]
        if line and line != self._status and now_s >= self._next_status_s:
            self._next_status_s = now_s + STATUS_EVERY_S
            if self._send(f"STATUS={line}"):
                self._status = line
        if self._ping_every_s and is_well and now_s >= self._next_ping_s:
            self._next_ping_s = now_s + self._ping_every_s
            self._send("WATCHDOG=1")


def _words(state: State, now_s: float) -> str:
    if state is State.RELOADING:  # systemd 253 and later want to know since when
        return f"RELOADING=1\nMONOTONIC_USEC={int(now_s * 1e6)}"
    return "STOPPING=1" if state is State.STOPPING else "READY=1"


def of_environment(environment: MutableMapping[str, str], *, is_taken_out: bool = True) -> Service:
    """The service that systemd has started this process as; one that is off, where it has not.

    Args:
        environment: usually `os.environ`.
        is_taken_out: remove it from there, so that no child speaks for this process.
    """
    found = {name: environment.get(name, "") for name in VARIABLES}
    if is_taken_out:
        for name in VARIABLES:
            environment.pop(name, None)
    address = found["NOTIFY_SOCKET"]
    if not address.startswith(("/", "@")):
        return Service()
    talker = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    # @ is a name in the abstract namespace, as systemd writes it
    path = f"\0{address[1:]}" if address.startswith("@") else address

    def send(message: str) -> bool:
        with contextlib.suppress(OSError):  # full, or gone: it is tried again, and we work on
            talker.sendto(message.encode(), socket.MSG_DONTWAIT, path)
            return True
        return False

    return Service(send, _watchdog_s(found))


def _watchdog_s(found: dict[str, str]) -> float:
    """After how long without a sign of life this process is taken for hung; 0: never."""
    usec, pid = found["WATCHDOG_USEC"], found["WATCHDOG_PID"]
    is_ours = not pid or pid == str(os.getpid())
    return int(usec) / 1e6 if usec.isascii() and usec.isdecimal() and is_ours else 0.0
