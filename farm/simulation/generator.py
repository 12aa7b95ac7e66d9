"""Drilling units in a process of their own, so that they and the listener don't share one GIL.

    python -m farm.simulation.generator

Talks in lines of JSON: reads a `Load`, says it is ready, waits for a second line, publishes, tells
every half second which holes have gone out and when, and ends with a report. `Generator` is the
other end. CLOCK_MONOTONIC is one clock for all processes, so the times can be compared.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from farm.errors import FarmError
from farm.simulation.archive import read_archive
from farm.simulation.drilled import sized_templates
from farm.simulation.mqtt import BrokerAddress
from farm.simulation.schedule import Plan
from farm.simulation.tether import tethered
from farm.simulation.units import DrillingUnits, HoleKey, fresh_first_id, simulated_fleet

if TYPE_CHECKING:
    from types import TracebackType

    from farm.simulation.restamp import HoleTemplate

POOL_HOLES = 24  # different holes of a simulated load
TELL_EVERY_S = 0.5
STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Load:
    """What a generator publishes.

    Attributes:
        host: of the MQTT broker.
        port: of the MQTT broker.
        protocol: see `BrokerAddress`.
        rate_hz: holes per second.
        count: holes in all.
        tools: over how many tools.
        trace_kb: wanted size of the traces, where they are simulated.
        holes_dir: an archive to take the holes from instead.
        poisson: arrivals at random.
        shuffle: the messages of a hole in any order.
        skew_s: see `Plan`.
        seed: of everything.
    """

    host: str
    port: int
    protocol: str
    rate_hz: float
    count: int
    tools: int
    trace_kb: float
    holes_dir: str = ""
    poisson: bool = False
    shuffle: bool = True
    skew_s: float = 0.0
    seed: int = 1

    def templates(self) -> list[HoleTemplate]:
        """The holes to publish over and over."""
        if self.holes_dir:
            return [hole.template for hole in read_archive(Path(self.holes_dir))]
        return sized_templates(self.trace_kb, count=POOL_HOLES, seed=self.seed)


@dataclass(frozen=True, slots=True)
class GeneratorReport:
    """What the generator says at its end."""

    holes: int
    messages: int
    acknowledged: int
    refused: dict[str, int]
    max_late_ms: float
    bytes_per_hole: int


class Generator:
    """The generator's process, seen from outside; a context manager.

    Raises:
        FarmError: from any method, when the process reports a failure or is gone.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._sent_s: dict[HoleKey, float] = {}
        self._report: GeneratorReport | None = None
        self._failure = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            tethered([sys.executable, "-m", "farm.simulation.generator"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        self._write(json.dumps(asdict(self._load)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader is not None:
            self._reader.join(STOP_TIMEOUT_S)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def wait_ready(self) -> None:
        """Wait until the holes are drilled and the broker is connected."""
        assert self._process is not None
        assert self._process.stdout is not None
        self._take(self._process.stdout.readline())
        self._check()

    def go(self) -> None:
        """Start publishing."""
        assert self._process is not None
        assert self._process.stdout is not None
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stdout,), name="generator", daemon=True
        )
        self._reader.start()
        self._write("go")

    def sent(self) -> dict[HoleKey, float]:
        """When the last message of each hole went out, as told so far (monotonic)."""
        return dict(self._sent_s)

    @property
    def running(self) -> bool:
        """It has not reported its end yet."""
        self._check()
        return self._report is None

    def report(self) -> GeneratorReport:
        """The report of a finished generator."""
        self._check()
        assert self._report is not None
        return self._report

    def _check(self) -> None:
        if self._failure:
            raise FarmError(f"the load generator failed: {self._failure}")

    def _write(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            self._take(line)
        if self._report is None and not self._failure:
            self._failure = "it ended without a report"

    def _take(self, line: str) -> None:
        told: dict[str, Any] = json.loads(line or '{"failure": "it ended before it was ready"}')
        for source, result_id, sent_s in told.get("sent", ()):
            self._sent_s[source, result_id] = sent_s
        if "report" in told:
            self._report = GeneratorReport(**told["report"])
        self._failure = told.get("failure", self._failure)


class _Teller:
    """Collects what was sent and tells it in batches from a thread of its own."""

    def __init__(self) -> None:
        self._batch: list[tuple[str, str, float]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="teller", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, key: HoleKey, sent_s: float) -> None:
        with self._lock:
            self._batch.append((*key, sent_s))

    def finish(self) -> None:
        self._stop.set()
        self._thread.join()
        self._tell()

    def _run(self) -> None:
        while not self._stop.wait(TELL_EVERY_S):
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            batch, self._batch = self._batch, []
        if batch:
            _say(sent=batch)


def _say(**told: Any) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def _publish(load: Load) -> None:
    templates = load.templates()
    fleet = simulated_fleet([templates], tools=load.tools, first_id=fresh_first_id())
    sizes = [sum(len(raw) for _, raw in t.bind().stamp("1")) for t in templates]
    teller = _Teller()
    units = DrillingUnits(
        BrokerAddress(load.host, load.port, protocol=load.protocol),  # type: ignore[arg-type]
        fleet.next_hole,
        Plan(load.rate_hz, load.count, load.poisson, load.shuffle, load.skew_s),
        seed=load.seed,
        on_sent=teller.add,
    )
    units.connect()
    _say(ready=time.monotonic())
    if not sys.stdin.readline():
        return
    teller.start()
    done = units.run()
    teller.finish()
    units.close()
    messages = done.messages
    report = GeneratorReport(
        done.holes,
        messages.sent,
        messages.acknowledged,
        messages.refused,
        1000 * done.max_late_s,
        sum(sizes) // len(sizes),
    )
    _say(report=asdict(report))


def main() -> None:
    """Read the load and publish it; a failure is told, not shown."""
    try:
        _publish(Load(**json.loads(sys.stdin.readline())))
    except FarmError as error:
        _say(failure=str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
