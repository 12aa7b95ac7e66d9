"""The `Monitoring` of a broker: what is told over HTTP to Prometheus and to health checks.

Strings together the hatch, the exposition and the server. All of it is on threads of its own; the
loop calls `turn`, which costs next to nothing while nobody asks.
"""

from __future__ import annotations

import time
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from farm import log
from farm.journal.journal import Journal
from farm.metrics.disk import DiskWatch
from farm.metrics.exposition import CONTENT_TYPE, Exposition
from farm.metrics.hatch import Hatch
from farm.metrics.server import MetricsServer, Page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from farm.broker.ending import Ending
    from farm.broker.parts import Parts
    from farm.broker.traffic import Traffic
    from farm.config import Config
    from farm.metrics.vitals import Vitals

TICK_TIMEOUT_S: Final = 5.0  # a loop that has not turned for so long hangs; the worst on a busy
# machine was half a second, and the supervisor kills one after ten


class Readiness(NamedTuple):
    """What it takes to answer holes. Read from other threads: plain values, none computed."""

    is_connected: bool
    ready_workers: int
    is_draining: bool


class Monitoring:
    """See the module. Listens from construction on.

    Args:
        config: all of it.
        farm: the name of this one.
        journal: the folder of its journal; None: it has none.
        wake: ends the loop's waiting.
        readiness: called on other threads.
        is_patient: what keeps it from listening is waited for: a farm that ran must run again.

    Raises:
        FarmError: it can't listen as configured, and is not patient.
    """

    def __init__(
        self,
        config: Config,
        *,
        farm: str,
        journal: Path | None,
        wake: Callable[[], None],
        readiness: Callable[[], Readiness],
        is_patient: bool = False,
    ) -> None:
        self._config = config.metrics
        self._readiness = readiness
        self._limited = log.Limited()
        self._hatch = Hatch(wake)
        self._disk = DiskWatch(journal) if journal is not None else None
        requests: Counter[int] = Counter()
        share = config.partition
        self._exposition = Exposition(
            self._hatch,
            farm=farm,
            partition=str(share.index) if share.group else "",
            keep_bytes=config.journal.keep_bytes,
            disk=lambda: self._disk.use if self._disk is not None else None,
            requests=requests,
        )
        pages = {"/metrics": self._metrics, "/healthz": self._health, "/readyz": self._ready}
        self._server = MetricsServer(
            config.metrics, pages, requests=requests, is_patient=is_patient
        )

    def start(self) -> None:
        """Begin to answer."""
        config = self._config
        self._server.start()
        if self._disk is not None:
            self._disk.start()
        if not config.is_local and config.cert_file is None:
            log.get().warning(
                "metrics_unencrypted",
                effect="who listens on the network sees the token",
                cure="give metrics.cert_file and key_file, or listen on loopback",
            )

    def turn(self, make: Callable[[float], Vitals]) -> None:
        """The loop has turned once more."""
        try:
            self._hatch.turn(time.monotonic(), make)
        except Exception as error:  # noqa: BLE001 - to be seen less must not end the broker
            self._hatch.give_up()
            self._limited.warning("vitals_failed", exc_info=error)

    def stop(self) -> None:
        """End."""
        self._server.stop()
        if self._disk is not None:
            self._disk.stop()

    def _metrics(self) -> Page:
        return Page(HTTPStatus.OK, self._exposition.render(), CONTENT_TYPE)

    def _health(self) -> Page:
        if fault := self._fault():
            return _page_of(fault)
        return Page(HTTPStatus.OK, b"ok\n")

    def _ready(self) -> Page:
        found = self._readiness()
        faults = [self._fault()]
        if not found.is_connected:
            faults.append("MQTT is not connected")
        if not found.ready_workers:
            faults.append("no worker is READY")
        if found.is_draining:
            faults.append("the farm is stopping")
        told = [fault for fault in faults if fault]
        return _page_of("; ".join(told)) if told else Page(HTTPStatus.OK, b"ready\n")

    def _fault(self) -> str:
        """Why the loop is not well, as a sentence; "" where it is."""
        age_s = self._hatch.tick_age_s
        if age_s is None:
            return "the broker is starting"
        if age_s > TICK_TIMEOUT_S:
            return f"the broker's loop has not turned for {age_s:.0f} s"
        return ""


def monitor(parts: Parts, traffic: Traffic, ending: Ending, *, is_patient: bool) -> Monitoring:
    """The monitoring of a broker process.

    Args:
        parts: of the broker.
        traffic: of it.
        ending: of it.
        is_patient: see `Monitoring`.

    Raises:
        FarmError: it can't listen as configured, and is not patient.
    """

    def readiness() -> Readiness:
        return Readiness(traffic.is_connected, parts.flow.roster.ready, ending.is_draining)

    journal = parts.journal
    return Monitoring(
        parts.config,
        farm=parts.instance,
        journal=journal.directory if isinstance(journal, Journal) else None,
        wake=parts.waker.wake,
        readiness=readiness,
        is_patient=is_patient,
    )


def _page_of(fault: str) -> Page:
    return Page(HTTPStatus.SERVICE_UNAVAILABLE, f"{fault}\n".encode())
