"""Breaks things: one method for each fault of processes and of the network, and their repair.

Owns what is stopped or slowed at the moment. When what strikes is `farm.simulation.chaos.faults`.
"""

from __future__ import annotations

import heapq
import signal
import time
from itertools import count
from typing import TYPE_CHECKING, Final

import psutil

from farm.errors import MqttError
from farm.simulation.chaos.faults import LINK_DELAY_S, Fault, Strike, Struck
from farm.simulation.chaos.watch import is_alive

if TYPE_CHECKING:
    from collections.abc import Callable

    from farm.simulation.chaos.watch import Watch
    from farm.simulation.proxy import FaultyProxy
    from farm.simulation.rig import Rig

SAVE_TIMEOUT_S: Final = 30.0  # mosquitto saves what waits for a farm that is away


class Hands:
    """For the thread that started the farm and mosquitto, since they end with it.

    Attributes:
        struck: what was done so far.
        frozen: workers that were stopped for ever.
    """

    def __init__(self, rig: Rig, proxy: FaultyProxy, watch: Watch) -> None:
        self._rig = rig
        self._proxy = proxy
        self._watch = watch
        self._repairs: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()
        self.struck: list[Struck] = []
        self.frozen: list[psutil.Process] = []
        self._actions: dict[Fault, Callable[[Strike], str]] = {
            Fault.WORKER_KILL: self._kill_worker,
            Fault.WORKER_STOP: self._stop_worker,
            Fault.WORKER_FREEZE: self._freeze_worker,
            Fault.NURSERY_KILL: self._kill_nursery,
            Fault.NURSERY_STOP: self._stop_nursery,
            Fault.BROKER_KILL: self._kill_broker,
            Fault.BROKER_STOP: self._stop_broker,
            Fault.FARM_KILL: self._kill_farm,
            Fault.MOSQUITTO_RESTART: self._restart_mosquitto,
            Fault.MOSQUITTO_KILL: self._kill_mosquitto,
            Fault.LINK_CUT: self._cut_link,
            Fault.LINK_DELAY: self._delay_link,
            Fault.LINK_BLACKHOLE: self._blacken_link,
        }

    def strike(self, strike: Strike) -> Struck | None:
        """Do it; None where there was nothing to break.

        Raises:
            MqttError: mosquitto did not come back, or did not save.
        """
        at_s = time.monotonic()
        what = self._actions[strike.fault](strike)
        if not what:
            return None
        lasts_s = max(strike.lasts_s, time.monotonic() - at_s)
        self.struck.append(Struck(strike.fault, at_s, lasts_s, what))
        return self.struck[-1]

    def repair(self, *, everything: bool = False) -> None:
        """End the faults whose time is over, or all of them."""
        while self._repairs and (everything or self._repairs[0][0] <= time.monotonic()):
            heapq.heappop(self._repairs)[2]()
        if not everything:
            return
        self._proxy.heal()
        # an interrupt may have come between an end and the new start
        if self._rig.broker.pid is None:
            self._rig.broker.start()
        if self._rig.exit_status == -signal.SIGKILL:
            self._rig.start_farm()

    @property
    def next_repair_s(self) -> float:
        """When the next fault is to end (monotonic); infinite where none is."""
        return self._repairs[0][0] if self._repairs else float("inf")

    def still_frozen(self) -> list[psutil.Process]:
        """Workers that were stopped for ever and that nobody has ended."""
        return [process for process in self.frozen if is_alive(process)]

    # ---- processes ----------------------------------------------------------------------------

    def _kill_worker(self, strike: Strike) -> str:
        worker = self._worker(strike)
        return f"worker {worker.pid}" if worker and _send(worker.kill) else ""

    def _stop_worker(self, strike: Strike) -> str:
        worker = self._worker(strike)
        return self._stop(worker, "worker", strike.lasts_s)

    def _freeze_worker(self, strike: Strike) -> str:
        worker = self._worker(strike)
        if worker is None or not _send(worker.suspend):
            return ""
        self.frozen.append(worker)
        return f"worker {worker.pid} for ever"

    def _kill_nursery(self, _strike: Strike) -> str:
        nursery = self._watch.find("nursery")
        return f"nursery {nursery.pid}" if nursery and _send(nursery.kill) else ""

    def _stop_nursery(self, _strike: Strike) -> str:
        nursery = self._watch.find("nursery")
        return f"nursery {nursery.pid} for ever" if nursery and _send(nursery.suspend) else ""

    def _kill_broker(self, _strike: Strike) -> str:
        self._watch.look(is_urgent=True)  # so that the end of this life is known exactly
        broker = self._watch.broker
        return f"broker {broker.pid}" if broker and _send(broker.kill) else ""

    def _stop_broker(self, strike: Strike) -> str:
        return self._stop(self._watch.broker, "broker", strike.lasts_s)

    def _kill_farm(self, _strike: Strike) -> str:
        if self._rig.exit_status is not None:
            return ""
        pid = self._rig.pid
        self._rig.kill_farm()
        self._rig.start_farm()
        return f"farm {pid}"

    def _worker(self, strike: Strike) -> psutil.Process | None:
        """The one that the strike picks among those that are not stopped for ever already."""
        frozen = {process.pid for process in self.frozen}
        candidates = [one for one in self._watch.workers() if one.pid not in frozen]
        return candidates[int(strike.pick * len(candidates))] if candidates else None

    def _stop(self, process: psutil.Process | None, name: str, lasts_s: float) -> str:
        if process is None or not _send(process.suspend):
            return ""
        self._later(lasts_s, lambda: _send(process.resume))
        return f"{name} {process.pid} for {lasts_s:.1f} s"

    # ---- mosquitto and the way to it ----------------------------------------------------------

    def _restart_mosquitto(self, _strike: Strike) -> str:
        if not self._rig.broker.stop(SAVE_TIMEOUT_S):
            raise MqttError(f"mosquitto did not save and end in {SAVE_TIMEOUT_S:.0f} s")
        self._rig.broker.start()
        return f"mosquitto, now {self._rig.broker.pid}"

    def _kill_mosquitto(self, _strike: Strike) -> str:
        self._rig.broker.kill()
        self._rig.broker.start()
        return f"mosquitto, now {self._rig.broker.pid}"

    def _cut_link(self, _strike: Strike) -> str:
        self._proxy.cut()
        return "every connection"

    def _delay_link(self, strike: Strike) -> str:
        self._proxy.delay(LINK_DELAY_S)
        self._later(strike.lasts_s, lambda: self._proxy.delay(0.0))
        return f"by {LINK_DELAY_S:g} s for {strike.lasts_s:.1f} s"

    def _blacken_link(self, strike: Strike) -> str:
        self._proxy.blackhole()
        self._later(strike.lasts_s, self._proxy.heal)
        return f"for {strike.lasts_s:.1f} s"

    def _later(self, after_s: float, action: Callable[[], object]) -> None:
        due_s = time.monotonic() + after_s
        heapq.heappush(self._repairs, (due_s, next(self._order), action))


def _send(action: Callable[[], None]) -> bool:
    """Have a signal sent; False: the process is gone."""
    try:
        action()
    except psutil.NoSuchProcess:
        return False
    return True
