"""Runs everything that is to be compared, one after the other, and all of it again.

What is compared alternates, so that a machine that grows slower with time is so for all. One runs
at a time, in a world of its own: MQTT broker, processes, folders.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from farm.cores import cores
from farm.simulation.archive import read_archive, write_archive
from farm.simulation.bench.contender import FarmContender, PlainContender
from farm.simulation.bench.forward import Forward, measure_forward
from farm.simulation.bench.meter import Measured, measure, under_load
from farm.simulation.bench.replacing import replace_workers
from farm.simulation.drilled import sized_holes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from farm.simulation.bench.contender import Contender
    from farm.simulation.bench.drive import Load

FARM: Final = "farm"
BARE_MQTT: Final = "bare MQTT"
MODEL_ALONE: Final = "model alone"
AGAINST: Final = ("pool", "raw", "plain")
POOL_HOLES: Final = 24  # different holes of a simulated load
NULL_MODEL: Final = "farm.models.null:NullModel"
FORWARD_S: Final = 5.0  # at most: it settles at once


@dataclass(frozen=True, slots=True)
class Orders:
    """What is to be measured.

    Attributes:
        load: `holes_dir` is empty for simulated holes.
        trace_kb: of these.
        workers: of the farm, and of the pool beside it.
        settings: of the farm, by section. All others get them as well, so that each has the same
            model, read by the same adapter; what is the farm's alone means nothing to them.
        engine: of the MQTT broker.
        durable_mqtt: see `EmbeddedBroker`.
        repeat: rounds.
        limits: measure the model alone and bare MQTT in each round.
        against: other designs to measure in each, of `AGAINST`.
        kills: workers that are killed in each, to see how soon they are replaced.
    """

    load: Load
    trace_kb: float
    workers: int
    settings: Mapping[str, Any]
    engine: str
    durable_mqtt: bool = False
    repeat: int = 1
    limits: bool = True
    against: tuple[str, ...] = ()
    kills: int = 0

    @property
    def is_null(self) -> bool:
        """The model does nothing, so that alone it has no rate."""
        has_cost = self.settings.get("model_settings", {}).get("cost_ms")
        return self.settings.get("model") == NULL_MODEL and not has_cost


@dataclass(frozen=True, slots=True)
class Round:
    """What was found in one round.

    Attributes:
        measured: by the contender's name; the farm is always there.
        forward: the model alone.
    """

    measured: dict[str, Measured] = field(default_factory=dict)
    forward: Forward | None = None


class Rounds:
    """A context manager with the holes that all of it is made of.

    Args:
        orders: what to do.
        tell: called with a line about how it goes.
        done: gets each round that has come to its end.
    """

    def __init__(self, orders: Orders, tell: Callable[[str], None], done: list[Round]) -> None:
        self._orders = orders
        self._tell = tell
        self._stack = ExitStack()
        self._load = orders.load
        self._done = done

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="farm-bench-")))
            if not self._load.holes_dir:
                self._tell("drilling holes")
                holes = sized_holes(
                    self._orders.trace_kb, count=POOL_HOLES, seed=self._orders.load.seed
                )
                write_archive(home / "holes", holes)
                self._load = replace(self._load, holes_dir=str(home / "holes"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self) -> None:
        """All rounds.

        Raises:
            FarmError: something of it failed.
        """
        for number in range(self._orders.repeat):
            self._done.append(self._round(number + 1))

    def _round(self, number: int) -> Round:
        orders = self._orders
        mark = f"round {number} of {orders.repeat}, " if orders.repeat > 1 else ""

        def tell(line: str) -> None:
            self._tell(mark + line)

        names = [FARM, *orders.against]
        if orders.limits:
            names += [BARE_MQTT] if orders.is_null else [BARE_MQTT, MODEL_ALONE]
        measured: dict[str, Measured] = {}
        forward = None
        first = (number - 1) % len(names)  # nobody always comes first, or behind the same one
        for name in names[first:] + names[:first]:
            if name == MODEL_ALONE:
                tell("the model alone")
                forward = self._forward()
            else:
                measured[name] = self._measured(name, tell)
        return Round({name: measured[name] for name in names if name in measured}, forward)

    def _measured(self, name: str, tell: Callable[[str], None]) -> Measured:
        if name == FARM:
            return self._farm(tell)
        contender = self._bare_mqtt() if name == BARE_MQTT else self._pool(name)
        return measure(contender, self._load, tell)

    def _farm(self, tell: Callable[[str], None]) -> Measured:
        orders = self._orders
        contender = FarmContender(
            workers=orders.workers,
            engine=orders.engine,
            durable_mqtt=orders.durable_mqtt,
            settings=orders.settings,
        )
        tell(f"{FARM}: {orders.workers} workers start")
        with contender:
            ready_s = contender.wait_ready()
            found = under_load(contender, self._load, tell, ready_s=ready_s)
            if orders.kills:
                found.replacing = replace_workers(contender, self._load, orders.kills, tell)
        return found

    def _pool(self, mode: str) -> Contender:
        orders = {
            "mode": mode,
            "workers": self._orders.workers,
            "settings": dict(self._orders.settings),
            "heads": self._load.heads and self._all_have_heads(),
        }
        return self._plain(mode, "farm.simulation.pool_design", orders)

    def _all_have_heads(self) -> bool:
        """Else the pool, which waits for every kind of message, does without."""
        holes = read_archive(Path(self._load.holes_dir))
        return all(hole.messages.heads is not None for hole in holes)

    def _bare_mqtt(self) -> Contender:
        return self._plain(BARE_MQTT, "farm.simulation.bench.bare_mqtt", {})

    def _plain(self, name: str, module: str, orders: Mapping[str, Any]) -> Contender:
        return PlainContender(
            name,
            module,
            orders,
            engine=self._orders.engine,
            durable_mqtt=self._orders.durable_mqtt,
        )

    def _forward(self) -> Forward:
        return measure_forward(
            self._orders.settings,
            self._load.holes_dir,
            processes=cores(),
            duration_s=min(self._load.duration_s, FORWARD_S),
        )
