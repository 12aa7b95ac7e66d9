"""A network to break: hosts as network namespaces, and cables between them that can be bad.

Owns namespaces, their interfaces, and the packets on their way. A cable is two TUN devices and a
thread between them, so that delay, loss, a cut and a link that is open in one direction alone need
nothing from the kernel but TUN (Documentation/networking/tuntap.rst). Needs root.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from farm.errors import FarmError

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
_TUNSETIFF: Final = 0x400454CA  # linux/if_tun.h
_IFF_TUN_NO_PI: Final = 0x1001
_TUN: Final = Path("/dev/net/tun")
_OURS: Final = Path("/proc/thread-self/ns/net")
_NAMES: Final = Path("/run/netns")
_PACKET_BYTES: Final = 65_536
_LOOK_S: Final = 0.05  # how soon the thread sees that it is to end
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def why_impossible() -> str:
    """Why no network can be made here, as a sentence; "" where one can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not os.access(_TUN, os.R_OK | os.W_OK):
        return f"there is no {_TUN}"
    try:
        with isolated():
            return ""
    except (FarmError, OSError) as error:
        return f"no network namespace can be made: {error}"


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """This thread, and all that it starts from now on, in a network of its own; then back.

    Raises:
        FarmError: the kernel does not allow it.
    """
    before = os.open(_OURS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", _CLONE_NEWNET)
        try:
            _ip("link", "set", "lo", "up")
            yield
        finally:
            _call("setns", before, _CLONE_NEWNET)
    finally:
        os.close(before)


class Host:
    """Another machine: a network namespace of this name. A context manager."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> Self:
        _ip("netns", "add", self.name)
        _ip("-n", self.name, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        _ip("netns", "del", self.name)

    def command(self, *arguments: object) -> list[str]:
        """A command line that runs this on the host."""
        return ["ip", "netns", "exec", self.name, *map(str, arguments)]

    def enter(self) -> None:
        """Take this thread to the host, for good."""
        descriptor = os.open(_NAMES / self.name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _call("setns", descriptor, _CLONE_NEWNET)
        finally:
            os.close(descriptor)


class Cable:
    """From this thread's network to a host. A context manager; its methods are for any thread.

    Args:
        host: at the far end.
        number: of the cable, 0 to 255: it chooses the addresses.
        seed: of what is lost.

    Attributes:
        near: the IP address of this end.
        far: of the host's.
        passed: packets that were carried.
        lost: packets that were not.
    """

    def __init__(self, host: Host, number: int, *, seed: int = 1) -> None:
        self.near, self.far = f"10.77.{number}.1", f"10.77.{number}.2"
        self.passed = self.lost = 0
        self._host = host
        self._device = f"cable{number}"
        self._random = random.Random(seed)
        self._delay_s = 0.0
        self._loss = 0.0
        self._is_open = {"to": True, "from": True}  # the host
        self._ending = False
        self._thread = threading.Thread(target=self._carry, name=self._device, daemon=True)

    def __enter__(self) -> Self:
        self._near_end = _tun(self._device)
        _ip("addr", "add", self.near, "peer", self.far, "dev", self._device)
        _ip("link", "set", self._device, "up")
        made: list[int] = []

        def make() -> None:
            self._host.enter()
            made.append(_tun(self._device))

        maker = threading.Thread(target=make)  # which stays there, and ends
        maker.start()
        maker.join()
        if not made:
            os.close(self._near_end)
            raise FarmError(f"no cable could be plugged into {self._host.name}")
        self._far_end = made[0]
        there = ("-n", self._host.name)
        _ip(*there, "addr", "add", self.far, "peer", self.near, "dev", self._device)
        _ip(*there, "link", "set", self._device, "up")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        self._thread.join()
        os.close(self._near_end)
        os.close(self._far_end)

    def cut(self) -> None:
        """Nothing passes, and nobody is told."""
        self._is_open = {"to": False, "from": False}

    def half_open(self) -> None:
        """The host is heard, and hears nothing."""
        self._is_open = {"to": False, "from": True}

    def mend(self) -> None:
        """Everything passes again."""
        self._is_open = {"to": True, "from": True}

    def worsen(self, *, delay_s: float, loss: float) -> None:
        """Each packet takes so long, in each direction, and is lost with this probability."""
        self._delay_s, self._loss = delay_s, loss

    def _carry(self) -> None:
        ways = {
            self._near_end: ("to", self._far_end),
            self._far_end: ("from", self._near_end),
        }
        under_way: list[tuple[float, int, int, bytes]] = []  # due, count, where to, packet
        count = 0
        while not self._ending:
            due_s = under_way[0][0] - time.monotonic() if under_way else _LOOK_S
            readable, _, _ = select.select(list(ways), [], [], min(max(due_s, 0.0), _LOOK_S))
            for end in readable:
                way, there = ways[end]
                packet = os.read(end, _PACKET_BYTES)
                if not self._is_open[way] or self._random.random() < self._loss:
                    self.lost += 1
                    continue
                count += 1
                heapq.heappush(under_way, (time.monotonic() + self._delay_s, count, there, packet))
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, there, packet = heapq.heappop(under_way)
                with contextlib.suppress(OSError):  # its interface was taken down
                    os.write(there, packet)
                    self.passed += 1


def _tun(name: str) -> int:
    """A TUN device in this thread's network; the descriptor is its other end."""
    descriptor = os.open(_TUN, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN_NO_PI))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _call(function: str, *arguments: int) -> None:
    if getattr(_LIBC, function)(*arguments) != 0:
        code = ctypes.get_errno()
        raise FarmError(f"{function}: {os.strerror(code)}")


def _ip(*arguments: str) -> None:
    """Run ip(8).

    Raises:
        FarmError: it is not there, or can't do it.
    """
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise FarmError("there is no program `ip`: install iproute2") from error
    if done.returncode:
        raise FarmError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
