"""Kills workers of a farm under light load, and measures how soon each place is filled again."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import zmq

from farm import wire
from farm.control import ControlClient
from farm.errors import FarmError
from farm.simulation.bench.drive import Driver
from farm.simulation.rig import READY_STATES

if TYPE_CHECKING:
    from collections.abc import Callable

    from farm.simulation.bench.contender import FarmContender
    from farm.simulation.bench.drive import Driven, Load

LIGHT_RATE_HZ: Final = 10.0  # a hole is under way now and then, and the cores are free
REPLACE_TIMEOUT_S: Final = 60.0
LOOK_EVERY_S: Final = 0.002  # how exactly the time is known
REPLY_TIMEOUT_S: Final = 1.0
OTHER_IDS: Final = 500_000_000  # away from those of the load before: they must not be duplicates
SETTLE_S: Final = 1.5  # between two kills, so that one has nothing to do with the other


@dataclass(frozen=True, slots=True)
class Replacing:
    """What came of the kills.

    Attributes:
        times_s: from each kill to all workers READY again.
        driven: of the load beside them.
    """

    times_s: list[float]
    driven: Driven


def replace_workers(
    contender: FarmContender, load: Load, kills: int, tell: Callable[[str], None]
) -> Replacing:
    """Kill workers one after the other by SIGKILL.

    Args:
        contender: a farm that is ready.
        load: whose holes are published, few.
        kills: how many.
        tell: called with a line before each.

    Raises:
        FarmError: one was not replaced in time.
    """
    light = replace(load, rate_hz=LIGHT_RATE_HZ, warm_up_s=0.0, first_id=load.first_id + OTHER_IDS)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        client = ControlClient(context, contender.rig.control, timeout_s=REPLY_TIMEOUT_S)
        with Driver(light, contender.address) as driver:
            driver.wait_ready()
            driver.tell("go")
            times_s = []
            for number in range(kills):
                tell(f"farm: killing worker {number + 1} of {kills}")
                times_s.append(_kill_one(client, contender.rig.workers))
                time.sleep(SETTLE_S)
            return Replacing(times_s, driver.report())
    finally:
        context.destroy(linger=0)


def _kill_one(client: ControlClient, workers: int) -> float:
    """Kill the worker that has lived longest, and wait for the new one."""
    victim = next(iter(_ready_pids(client)), None)
    if victim is None:
        raise FarmError("the farm has no worker that could be killed")
    os.kill(victim, signal.SIGKILL)
    killed_s = time.monotonic()
    while time.monotonic() < killed_s + REPLACE_TIMEOUT_S:
        ready = _ready_pids(client)
        if victim not in ready and len(ready) >= workers:
            return time.monotonic() - killed_s
        time.sleep(LOOK_EVERY_S)
    raise FarmError(f"a killed worker was not replaced in {REPLACE_TIMEOUT_S:.0f} s")


def _ready_pids(client: ControlClient) -> list[int]:
    client.send(wire.StatsRequest())
    if not client.socket.poll(int(1000 * REPLY_TIMEOUT_S)):
        client.reset()
        return []
    reply = client.receive()
    if not isinstance(reply, wire.StatsReply):
        return []
    rows: list[dict[str, Any]] = reply.snapshot["workers"]
    ready = [row for row in rows if row["state"] in READY_STATES]
    return [row["pid"] for row in sorted(ready, key=lambda row: -row["up_s"])]
