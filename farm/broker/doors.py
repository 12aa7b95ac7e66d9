"""The `Doors`: the broker's three sockets as workers on other machines reach them.

A thin shell around `farm.doors.doorkeeper`: it owns the guard's socket and the ports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import zmq

from farm import log
from farm.config.attach import PORTS
from farm.doors.doorkeeper import ZAP_ENDPOINT, Doorkeeper
from farm.doors.keyring import Keyring
from farm.sockets import (
    FAR_JOBS_HWM,
    FAR_REPLIES_HWM,
    open_door,
    reopen_door,
    shut_door,
)

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

    from farm.config.attach import AttachConfig

_LOOK_S: Final = 0.25  # at the keys
_REOPEN_S: Final = 2.0  # in which libzmq gives back the port of a door that was shut
_REQUESTS_PER_TURN: Final = 50  # a flood of strangers must not keep the loop from its work


class Doors:
    """See the module.

    Args:
        config: where to listen.
        state_dir: the farm's; its keys are in it.
        counts: raised here: see `Doorkeeper`.

    Raises:
        StateError: the keys can't be used.
    """

    def __init__(self, config: AttachConfig, state_dir: Path, counts: Counter[str]) -> None:
        keyring = Keyring(state_dir)
        if not keyring.workers():
            log.get().warning(
                "doors_without_keys", effect="nobody can come in", cure="farm keys new"
            )
        self._farm_key = keyring.farm_key()
        self._keeper = Doorkeeper(keyring, counts)
        control, jobs, results = (
            f"tcp://{config.host}:{config.port + offset}" for offset in range(PORTS)
        )
        self.jobs_endpoint, self.results_endpoint = jobs, results
        self.control_endpoint = control
        self._open: list[tuple[zmq.Socket[bytes], str]] = []
        self._shut: list[tuple[zmq.Socket[bytes], str]] = []
        self._shut_s = 0.0
        self._next_look_s = 0.0
        self._limited = log.Limited()

    def open(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        *,
        jobs: zmq.Socket[bytes],
        results: zmq.Socket[bytes],
        control: zmq.Socket[bytes],
    ) -> zmq.Socket[bytes]:
        """Listen; returns the socket on which the doorkeeper is asked. Nobody comes in before.

        Raises:
            StateError: a port is taken.
        """
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind(ZAP_ENDPOINT)  # before any door: without a doorkeeper they stand open
        for socket, endpoint, send_hwm in (
            (jobs, self.jobs_endpoint, FAR_JOBS_HWM),
            (results, self.results_endpoint, FAR_REPLIES_HWM),  # sends nothing
            (control, self.control_endpoint, FAR_REPLIES_HWM),
        ):
            bound = open_door(socket, endpoint, self._farm_key, send_hwm=send_hwm)
            self._open.append((socket, bound))
        log.get().info("doors_open", control=self.control_endpoint)
        return self.socket

    def answer(self) -> None:
        """Let in and turn away those who stand at a door."""
        for _ in range(_REQUESTS_PER_TURN):
            try:
                request = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.socket.send_multipart(self._keeper.answer(request))

    def keep_out(self, name: str, seconds: float, now_s: float) -> None:
        """End the connections of a key, with all others, and let it in no more for so long."""
        self._keeper.keep_out(name, seconds)
        self._shut_all(now_s)

    def tend(self, now_s: float) -> list[str]:
        """Look at the keys; where one is revoked, end its connections with all others.

        The others come in again by themselves, in a moment; what was on its way is sent again.

        Returns:
            The names whose keys were revoked: nobody hears their workers any more.
        """
        revoked: list[str] = []
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + _LOOK_S
            if revoked := self._keeper.look():
                self._shut_all(now_s)
        for door in list(self._shut):
            if reopen_door(*door):
                self._shut.remove(door)
                self._open.append(door)
            elif now_s - self._shut_s > _REOPEN_S:  # somebody else has taken the port
                self._limited.warning("door_shut", endpoint=door[1], next="trying again")
        return revoked

    def _shut_all(self, now_s: float) -> None:
        for socket, endpoint in self._open:
            shut_door(socket, endpoint)
        self._shut, self._open = [*self._shut, *self._open], []
        self._shut_s = now_s

    def close(self) -> None:
        """End the doorkeeper."""
        if self._open or self._shut:
            self.socket.close(0)
