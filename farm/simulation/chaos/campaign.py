"""A run under chaos from its start to the account: load, faults, draining, stop, history.

Owns the order of things. The farm's supervisor is played by this process: a farm that ends is
started again, and one that ends by itself is noted.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any, Final, Self

from farm.errors import FarmError
from farm.simulation.chaos.drill import Drill
from farm.simulation.chaos.ear import Ear
from farm.simulation.chaos.faults import Fault, Strike, Struck, plan
from farm.simulation.chaos.hands import Hands
from farm.simulation.chaos.history import History
from farm.simulation.chaos.poison import MEMORY_LIMIT_BYTES, MODEL
from farm.simulation.chaos.records import read_records
from farm.simulation.chaos.traffic import Twister
from farm.simulation.chaos.watch import Watch
from farm.simulation.drilled import Recipe, series
from farm.simulation.gateway import STYLES
from farm.simulation.mqtt import BrokerAddress, Outage
from farm.simulation.mqttd import Engine
from farm.simulation.proxy import LOOPBACK, FaultyProxy
from farm.simulation.restamp import HoleTemplate
from farm.simulation.rig import Rig
from farm.simulation.units import fresh_first_id, simulated_fleet

if TYPE_CHECKING:
    from collections.abc import Callable

TOOLS: Final = 20
PROGRAM: Final = "V6-V7"  # its traces are the smallest, 20 kB: what breaks is the farm, not a rate
HOLES_PER_STYLE: Final = 12  # different ones; they are published over and over
TICK_S: Final = 0.05
# A part may come this long after its partner: far more than the skew of the load and an outage
# that nobody noticed, and little enough to wait for at the end.
TIME_WINDOW_S: Final = 20.0
OBJECTIVE_S: Final = 1.0
# After the load: the last window must end, a farm may just have been killed, and its backlog with
# all workers starting anew takes a while on a small machine.
DRAIN_TIMEOUT_S: Final = TIME_WINDOW_S + 60.0
ECHO_TIMEOUT_S: Final = 20.0
QUIET_FOR_S: Final = 2.0  # what mosquitto still holds comes within a moment of a connection
RESTART_PAUSE_S: Final = 0.2  # before a farm that ended by itself is started again


@dataclass(frozen=True, slots=True)
class Orders:
    """What to do.

    Attributes:
        duration_s: of the load.
        rate_hz: holes a second.
        workers: of the farm.
        faults_hz: faults of processes and network a second.
        seed: of everything.
        faults: which kinds.
        durability: of the journal: power, process or off.
        model: see `Config.model`.
        durable_mqtt: see `EmbeddedBroker`.
        keep: leave the directory with logs and journal.
    """

    duration_s: float
    rate_hz: float
    workers: int
    faults_hz: float
    seed: int
    faults: frozenset[Fault]
    durability: str = "process"
    model: str = MODEL
    durable_mqtt: bool = False
    keep: bool = False


def settings(orders: Orders) -> dict[str, Any]:
    """The configuration of a farm under chaos: what takes seconds at a site takes less here."""
    memory = {"memory_limit_bytes": MEMORY_LIMIT_BYTES} if orders.model == MODEL else {}
    return {
        "mqtt": {
            # a half-open link is noticed after two of these
            "broker": {"keepalive": 2, "reconnect_min_s": 0.05, "reconnect_max_s": 0.5},
            "listener": {"time_window": TIME_WINDOW_S, "cleanup_interval": 5.0},
        },
        "correlation": {"optional_wait_s": 0.1},
        "dispatch": {"job_timeout_s": 1.0, "job_timeout_floor_s": 0.5},
        "journal": {"durability": orders.durability},
        "overload": {"objective_s": OBJECTIVE_S},
        "workers": {"heartbeat_interval_s": 0.3, "heartbeat_timeout_s": 1.5, **memory},
        "supervisor": {
            "backoff_initial_s": 0.05,
            "backoff_max_s": 1.0,
            "broker_timeout_s": 3.0,
            "restart_budget": 10_000,  # it is us who end them
        },
        "log": {"level": "INFO"},
        "model": orders.model,
    }


class Campaign:
    """See the module. A context manager; enter it in a thread that lives as long.

    Attributes:
        tell: called with each fault that was done, and now and then with None.
        phase: what is going on, in a word.
    """

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.tell: Callable[[Struck | None], None] = lambda _struck: None
        self.phase = "chaos"
        self._proxy: FaultyProxy | None = None
        self.rig = Rig(
            workers=orders.workers,
            engine=Engine.MOSQUITTO,
            durable_mqtt=orders.durable_mqtt,
            settings=settings(orders),
            via=self._open_proxy,
            keep=orders.keep,
        )
        self.watch = Watch(self.rig)
        self._complaints: list[str] = []
        self._quiet_since_s: float | None = None

    def __enter__(self) -> Self:
        try:
            self.rig.__enter__()
            address = self.rig.broker.address
            self.ear = Ear(address)
            self.drill = self._new_drill(address)
            assert self._proxy is not None
            self._hands = Hands(self.rig, self._proxy, self.watch)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.drill.close()
        self.ear.close()
        self._close()

    def wait_ready(self, on_progress: Callable[[int], None]) -> None:
        """Wait until the farm and both ends of the traffic are there.

        Raises:
            FarmError: one of them is not in time.
        """
        self.ear.connect()
        self.drill.connect()
        self.rig.wait_ready(on_progress)
        self.watch.look(is_urgent=True)

    def run(self) -> History:
        """Load and faults, then calm, then the end.

        Raises:
            FarmError: the means of the run failed, not the farm: mosquitto did not come back, or
                the journal can't be read.
        """
        orders = self.orders
        strikes = plan(
            orders.faults,
            rate_hz=orders.faults_hz,
            duration_s=orders.duration_s,
            rng=Random(f"strikes {orders.seed}"),
        )
        began_s = time.monotonic()
        self.drill.start()
        # Ctrl-C ends the load; what was drilled is still accounted for
        with contextlib.suppress(KeyboardInterrupt):
            self._break_things(strikes, began_s)
        ended_s = time.monotonic()
        is_drained = self._drain()
        stats = self.watch.stats
        self._stop_farm()
        assert self._proxy is not None
        return History(
            began_s=began_s,
            ended_s=ended_s,
            holes=self.drill.holes,
            strays=self.drill.strays,
            heard=self.ear.heard(),
            lives=self.watch.lives,
            breaks=breaks(self._proxy),
            deaf=self.ear.outages(),
            struck=self._hands.struck,
            records=None if orders.durability == "off" else read_records(self.rig.state_dir),
            stats=stats,
            objective_s=OBJECTIVE_S,
            keypoints=self.ear.topics.keypoints,
            depth=self.ear.topics.depth,
            worker_pids=len(self.watch.worker_pids),
            is_drained=is_drained,
            faults_of_the_farm=self._complaints,
        )

    @property
    def faults_done(self) -> int:
        """How many faults of processes and network have struck."""
        return len(self._hands.struck)

    # ---- the load -------------------------------------------------------------------------------

    def _break_things(self, strikes: list[Strike], began_s: float) -> None:
        end_s = began_s + self.orders.duration_s
        todo = list(reversed(strikes))
        while (now_s := time.monotonic()) < end_s:
            if todo and began_s + todo[-1].at_s <= now_s:
                self.tell(self._hands.strike(todo.pop()))
            self._turn()
            next_s = began_s + todo[-1].at_s if todo else end_s
            pause_s = min(next_s, self._hands.next_repair_s) - time.monotonic()
            time.sleep(min(max(pause_s, 0.0), TICK_S))

    def _turn(self) -> None:
        self._hands.repair()
        self.watch.look()
        self._keep_farm_alive()
        self.tell(None)

    def _keep_farm_alive(self) -> None:
        status = self.rig.exit_status
        if status is None:
            return
        self._complaints.append(
            f"`farm start` ended by itself with status {status}; its log ends:\n"
            f"{self.rig.last_log_lines()}"
        )
        time.sleep(RESTART_PAUSE_S)
        self.rig.start_farm()

    # ---- the end --------------------------------------------------------------------------------

    def _drain(self) -> bool:
        """Mend everything and wait until all is done; False: it took too long."""
        self.phase = "draining"
        self.drill.stop()
        self._hands.repair(everything=True)
        self.drill.finish()
        deadline_s = time.monotonic() + DRAIN_TIMEOUT_S
        is_drained = self._wait(self._is_quiet, deadline_s)
        if not self._wait(lambda: self.watch.ready >= self.orders.workers, deadline_s):
            self._complaints.append(
                f"only {self.watch.ready} of {self.orders.workers} workers are READY at the end"
            )
        for process in self._hands.still_frozen():
            self._complaints.append(f"worker {process.pid} was stopped and never replaced")
        if not self.ear.catch_up(self.drill.publish, ECHO_TIMEOUT_S):
            raise FarmError("mosquitto does not deliver any more: the run can't be judged")
        return is_drained

    def _wait(self, is_so: Callable[[], bool], deadline_s: float) -> bool:
        while not is_so():
            if time.monotonic() > deadline_s:
                return False
            self._turn()
            time.sleep(TICK_S)
        return True

    def _is_quiet(self) -> bool:
        """Nothing has been open in the farm for a while."""
        shot = self.watch.stats
        if shot is None or not _is_idle(shot):
            self._quiet_since_s = None
            return False
        now_s = time.monotonic()
        if self._quiet_since_s is None:
            self._quiet_since_s = now_s
        return now_s - self._quiet_since_s > QUIET_FOR_S

    def _stop_farm(self) -> None:
        self.watch.look(is_urgent=True)
        status = self.rig.stop()
        if status != 0:
            self._complaints.append(f"`farm start` ended with status {status} after SIGTERM")
        if left := self.rig.survivors():
            self._complaints.append(f"processes are left behind: {left}")

    def _close(self) -> None:
        self.rig.close()
        if self._proxy is not None:
            self._proxy.close()

    def _open_proxy(self, address: BrokerAddress) -> BrokerAddress:
        self._proxy = FaultyProxy(address.host, address.port)
        self._proxy.start()
        return replace(address, host=LOOPBACK, port=self._proxy.port)

    def _new_drill(self, address: BrokerAddress) -> Drill:
        seed = self.orders.seed
        benches = [
            [
                HoleTemplate(hole.messages)
                for hole in series([Recipe(PROGRAM, style)], count=HOLES_PER_STYLE, seed=seed)
            ]
            for style in STYLES
        ]
        fleet = simulated_fleet(benches, tools=TOOLS, first_id=fresh_first_id())
        return Drill(
            address,
            fleet.next_hole,
            Twister(self.orders.faults, Random(f"traffic {seed}")),
            rate_hz=self.orders.rate_hz,
            rng=Random(f"moments {seed}"),
        )


def _is_idle(shot: dict[str, Any]) -> bool:
    """Whether nothing is open in a farm that could get more."""
    jobs, intake = shot["jobs"], shot["intake"]
    return shot["mqtt"]["state"] == "connected" and not (
        jobs["unanswered"]
        or jobs["unconfirmed_publications"]
        or intake["queued"]
        or shot["buffers"]["open_joins"]
    )


def breaks(proxy: FaultyProxy) -> list[Outage]:
    """The times between two usable connections through the proxy."""
    passages = [passage for passage in proxy.passages() if not passage.is_stillborn]
    found = []
    for passage, following in pairwise(passages):
        if passage.ended_s is not None:
            found.append(Outage(passage.ended_s, max(following.opened_s, passage.ended_s)))
    return found
