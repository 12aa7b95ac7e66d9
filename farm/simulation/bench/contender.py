"""What can be measured: something that hears holes over MQTT and answers them, with all processes.

Each brings an MQTT broker of its own, so that nothing of one run is left for the next.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from farm.simulation.bench.child import Child
from farm.simulation.mqttd import EmbeddedBroker
from farm.simulation.processes import process_cpu_s, pss_bytes, tree_pids
from farm.simulation.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farm.simulation.mqtt import BrokerAddress

READY_TIMEOUT_S: Final = 300.0  # ten workers that load torch from a cold disk

Memory = dict[str, tuple[int, int]]  # by kind of process: how many, and their PSS in bytes


class Contender(Protocol):
    """See the module. A context manager that starts it, and leaves nothing behind."""

    @property
    def name(self) -> str:
        """What it is called in tables."""
        ...

    @property
    def address(self) -> BrokerAddress:
        """Where holes are to be published."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    def wait_ready(self) -> float:
        """Wait until it takes holes; returns the seconds from its start."""
        ...

    def look(self) -> dict[str, Any]:
        """Its own account of itself, if it keeps one.

        Raises:
            FarmError: it has ended.
        """
        ...

    def cpu_s(self) -> dict[str, float]:
        """CPU time used so far in seconds, by kind of process."""
        ...

    def memory(self) -> Memory:
        """What its processes hold now."""
        ...


class FarmContender:
    """The farm itself.

    Args:
        workers: how many.
        engine: of the MQTT broker.
        durable_mqtt: see `EmbeddedBroker`.
        settings: of the farm, by section.

    Attributes:
        rig: its processes.
    """

    name = "farm"

    def __init__(
        self, *, workers: int, engine: str, durable_mqtt: bool, settings: Mapping[str, Any]
    ) -> None:
        self.rig = Rig(workers=workers, engine=engine, durable_mqtt=durable_mqtt, settings=settings)

    @property
    def address(self) -> BrokerAddress:
        """Of its MQTT broker."""
        return self.rig.broker.address

    def __enter__(self) -> Self:
        self.rig.__enter__()
        self._started_s = time.monotonic()
        return self

    def __exit__(self, *details: object) -> None:
        self.rig.__exit__(*details)

    def wait_ready(self) -> float:
        """Wait for all workers; returns the seconds from `farm start`."""
        self.rig.wait_ready(timeout_s=READY_TIMEOUT_S)
        return time.monotonic() - self._started_s

    def look(self) -> dict[str, Any]:
        """Its snapshot; {} while it does not answer."""
        self.rig.check_alive()
        return self.rig.stats() or {}

    def cpu_s(self) -> dict[str, float]:
        """By kind, the MQTT broker among them."""
        return {**_mqtt_cpu_s(self.rig.broker), **self.rig.cpu_s()}

    def memory(self) -> Memory:
        """By kind, the MQTT broker among them."""
        return self.rig.memory()


class PlainContender:
    """A process of ours that stands for another design, and its children.

    Args:
        name: what it is called.
        module: of the process, told its orders as `Child`s are, with the MQTT broker's address.
        orders: further ones.
        engine: of the MQTT broker.
        durable_mqtt: see `EmbeddedBroker`.
    """

    def __init__(
        self,
        name: str,
        module: str,
        orders: Mapping[str, Any],
        *,
        engine: str,
        durable_mqtt: bool,
    ) -> None:
        self.name = name
        self._broker = EmbeddedBroker(engine, durable=durable_mqtt)
        self._module = module
        self._orders = orders
        self._child: Child | None = None

    @property
    def address(self) -> BrokerAddress:
        """Of its MQTT broker."""
        return self._broker.address

    def __enter__(self) -> Self:
        self._broker.__enter__()
        where = self._broker.address
        told = {"host": where.host, "port": where.port, "protocol": where.protocol}
        try:
            self._started_s = time.monotonic()
            self._child = Child(self._module, {**self._orders, "address": told}).__enter__()
        except BaseException:
            self._broker.close()
            raise
        return self

    def __exit__(self, *details: object) -> None:
        try:
            self._process.__exit__(*details)
        finally:
            self._broker.close()

    def wait_ready(self) -> float:
        """Wait until it says so; returns the seconds from its start."""
        self._process.wait("ready", READY_TIMEOUT_S)
        return time.monotonic() - self._started_s

    def look(self) -> dict[str, Any]:
        """Nothing: it keeps no account."""
        self._process.check()
        return {}

    def cpu_s(self) -> dict[str, float]:
        """Of the process, its children and the MQTT broker."""
        root = self._process.pid
        found = {"main": process_cpu_s(root)}
        if children := tree_pids(root)[1:]:
            found["workers"] = sum(process_cpu_s(pid) for pid in children)
        return {**_mqtt_cpu_s(self._broker), **found}

    def memory(self) -> Memory:
        """Of the process, its children and the MQTT broker."""
        root = self._process.pid
        found = {"main": (1, pss_bytes(root))}
        if children := tree_pids(root)[1:]:
            found["workers"] = (len(children), sum(pss_bytes(pid) for pid in children))
        if self._broker.pid is not None:
            found[self._broker.engine.value] = (1, pss_bytes(self._broker.pid))
        return found

    @property
    def _process(self) -> Child:
        assert self._child is not None
        return self._child


def _mqtt_cpu_s(broker: EmbeddedBroker) -> dict[str, float]:
    return {} if broker.pid is None else {broker.engine.value: process_cpu_s(broker.pid)}
