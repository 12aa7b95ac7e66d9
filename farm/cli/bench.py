"""`farm bench`: answers, latency and memory of a farm under load."""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from farm.errors import ExitCode
from farm.simulation.generator import Generator, GeneratorReport, Load
from farm.simulation.listener import AnswerListener
from farm.simulation.mqttd import Engine
from farm.simulation.report import Outcome, outcome
from farm.simulation.rig import Rig
from farm.simulation.summary import outcome_json, outcome_rows

STATS_EVERY_S = 0.25
MEMORY_EVERY_S = 5.0  # reading PSS stops the process for a moment: seldom
PLAIN_LINE_EVERY_S = 5.0
ANSWER_TIMEOUT_S = 40.0  # longer than the farm's window for the messages of a hole
NULL_MODEL = "farm.models.null:NullModel"
LATE_MS = 50.0  # from here on the generator itself bent the load


@dataclass(slots=True)
class Observed:
    """What was seen of the farm while it worked."""

    peak_backlog: int = 0
    peak_memory: dict[str, tuple[int, int]] = field(default_factory=dict)
    snapshot: dict[str, Any] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)  # under load, by kind of process

    @property
    def peak_bytes(self) -> int:
        """Memory of all processes together at its highest."""
        return sum(size for _, size in self.peak_memory.values())


@click.command()
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=100,
    show_default=True,
    help="Holes per second.",
)
@click.option(
    "--duration",
    type=click.FloatRange(0, min_open=True),
    default=60,
    show_default=True,
    help="Seconds of measured load.",
)
@click.option(
    "--warm-up",
    "warm_up_s",
    type=click.FloatRange(0),
    default=5,
    show_default=True,
    help="Seconds of load before, not in the latency.",
)
@click.option(
    "-w",
    "--workers",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Worker processes.",
)
@click.option(
    "--tools", type=click.IntRange(1), default=20, show_default=True, help="Drilling units."
)
@click.option(
    "--trace-kb",
    type=click.FloatRange(0, min_open=True),
    default=20,
    show_default=True,
    help="Size of the traces, about.",
)
@click.option(
    "--holes-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Publish the holes of this folder instead of simulated ones.",
)
@click.option(
    "--engine",
    type=click.Choice([e.value for e in Engine]),
    default=Engine.AUTO.value,
    show_default=True,
    help="MQTT broker program.",
)
@click.option(
    "--durable-mqtt",
    is_flag=True,
    help="mosquitto syncs the disk for every message; it then carries few.",
)
@click.option(
    "--durability",
    type=click.Choice(["power", "process", "off"]),
    default="process",
    show_default=True,
    help="What the farm's journal survives.",
)
@click.option(
    "--model",
    default="",
    metavar="SPEC",
    help="As `model:` in the configuration; null: one that does nothing.  [default: built-in]",
)
@click.option("--poisson", is_flag=True, help="Holes at random moments instead of evenly spaced.")
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Of holes and schedule."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def command(
    *,
    rate: float,
    duration: float,
    warm_up_s: float,
    workers: int,
    tools: int,
    trace_kb: float,
    holes_dir: Path | None,
    engine: str,
    durable_mqtt: bool,
    durability: str,
    model: str,
    poisson: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Measure answers, latency and memory of a farm under load.

    Runs an MQTT broker and a farm of its own and publishes holes on a schedule that waits for
    nobody. The latency of a hole is the time from its last message published to its depth received,
    through the MQTT broker both ways. Exit code 1 when a hole went unanswered or was answered
    twice.

    \b
    Examples:
      farm bench --rate 100 --duration 60
      farm bench --rate 20 --trace-kb 200 --workers 4 --json
      farm bench --holes-dir samples --rate 50
      farm bench --rate 2000 --duration 5 --model null --durability off
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(stderr=True)
    wanted = {
        "journal": {"durability": durability},
        "model": NULL_MODEL if model == "null" else model,
    }
    with Rig(workers=workers, engine=engine, durable_mqtt=durable_mqtt, settings=wanted) as rig:
        address = rig.broker.address
        load = Load(
            host=address.host,
            port=address.port,
            protocol=address.protocol,
            rate_hz=rate,
            count=max(1, round(rate * (warm_up_s + duration))),
            tools=tools,
            trace_kb=trace_kb,
            holes_dir=str(holes_dir or ""),
            poisson=poisson,
            seed=seed,
        )
        bench = _Bench(rig, load, console)
        found, observed, generated = bench.run(warm_up_s)
    settings = {**asdict(load), "workers": workers, "engine": rig.broker.engine.value}
    settings |= {"durability": durability, "model": model, "durable_mqtt": durable_mqtt}
    settings |= {"warm_up_s": warm_up_s, "duration_s": duration}
    if as_json:
        click.echo(json.dumps(_as_json(found, observed, generated, settings)))
    else:
        click.echo(_title(generated, settings))
        Console().print(_table(found, observed, generated))
    if not found.good or generated.acknowledged < generated.messages:
        sys.exit(ExitCode.FAILURE)


class _Bench:
    """One measurement on a farm that is being started."""

    def __init__(self, rig: Rig, load: Load, console: Console) -> None:
        self._rig = rig
        self._load = load
        self._console = console
        self._observed = Observed()
        self._next_memory_s = self._next_line_s = 0.0

    def run(self, warm_up_s: float) -> tuple[Outcome, Observed, GeneratorReport]:
        """Start, load, wait for the last answer."""
        listener = AnswerListener(self._rig.broker.address)
        with Generator(self._load) as generator:
            with self._console.status(f"{self._rig.workers} workers load the model …"):
                self._rig.wait_ready()
                generator.wait_ready()
            listener.connect()
            before_s = self._rig.cpu_s()
            generator.go()
            begin_s = time.monotonic()
            self._watch(generator, listener)
            after_s = self._rig.cpu_s()
            self._observed.cpu_s = {k: s - before_s.get(k, 0.0) for k, s in after_s.items()}
            sent_s = generator.sent()
            found = outcome(sent_s, listener.answers(), measure_from_s=begin_s + warm_up_s)
            generated = generator.report()
        listener.close()
        return found, self._observed, generated

    def _watch(self, generator: Generator, listener: AnswerListener) -> None:
        columns = (TextColumn("{task.description}"), TimeElapsedColumn())
        shown = self._console.is_terminal
        with Progress(*columns, console=self._console, disable=not shown) as progress:
            task = progress.add_task("", total=None)
            deadline_s = float("inf")
            while time.monotonic() < deadline_s and listener.complete < self._load.count:
                if deadline_s == float("inf") and not generator.running:
                    deadline_s = time.monotonic() + ANSWER_TIMEOUT_S
                listener.wait_for(self._load.count, STATS_EVERY_S)
                self._observe()
                line = self._line(generator, listener)
                progress.update(task, description=line)
                self._plain(line, shown=shown)
            while generator.running and time.monotonic() < deadline_s:
                time.sleep(STATS_EVERY_S)

    def _observe(self) -> None:
        self._rig.check_alive()
        snapshot = self._rig.stats()
        if snapshot is not None:
            self._observed.snapshot = snapshot
            backlog = snapshot["throughput"]["backlog"]
            self._observed.peak_backlog = max(self._observed.peak_backlog, backlog)
        if time.monotonic() >= self._next_memory_s:
            self._next_memory_s = time.monotonic() + MEMORY_EVERY_S
            memory = self._rig.memory()
            if sum(size for _, size in memory.values()) > self._observed.peak_bytes:
                self._observed.peak_memory = memory

    def _line(self, generator: Generator, listener: AnswerListener) -> str:
        sent = max(len(generator.sent()), listener.complete)  # the generator tells in batches
        return (
            f"holes in {sent} of {self._load.count}, answered {listener.complete},"
            f" peak backlog {self._observed.peak_backlog}"
        )

    def _plain(self, line: str, *, shown: bool) -> None:
        if not shown and time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + PLAIN_LINE_EVERY_S
            self._console.print(line)


def _title(generated: GeneratorReport, settings: dict[str, Any]) -> str:
    saves = "saves every change" if settings["durable_mqtt"] else "saves at intervals"
    broker = settings["engine"] + (f" ({saves})" if settings["engine"] == "mosquitto" else "")
    return (
        f"{settings['rate_hz']:g} holes/s for {settings['duration_s']:g} s,"
        f" {settings['workers']} workers, {settings['tools']} tools,"
        f" {generated.bytes_per_hole / 1000:.0f} kB a hole, {broker},"
        f" durability {settings['durability']}"
    )


def _table(found: Outcome, observed: Observed, generated: GeneratorReport) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    for name, value in outcome_rows(found):
        table.add_row(name, Text(value))
    table.add_row("peak backlog", f"{observed.peak_backlog} holes")
    for kind, cpu_s in observed.cpu_s.items():
        table.add_row("CPU a hole", f"{kind}: {1000 * cpu_s / max(found.answered, 1):.3f} ms")
    table.add_row("memory (PSS)", _memory_words(observed))
    for kind, (count, size) in observed.peak_memory.items():
        table.add_row("", f"{kind}: {size / 1e6:.0f} MB" + (f" in {count}" if count > 1 else ""))
    if generated.max_late_ms > LATE_MS:
        late = f"the generator fell up to {generated.max_late_ms:.0f} ms behind its schedule"
        table.add_row("note", late)
    if generated.acknowledged < generated.messages:
        missing = generated.messages - generated.acknowledged
        table.add_row("note", f"{missing} messages were not acknowledged by the MQTT broker")
    return table


def _memory_words(observed: Observed) -> str:
    brokers = {engine.value for engine in Engine}
    farm = sum(size for kind, (_, size) in observed.peak_memory.items() if kind not in brokers)
    return f"{farm / 1e6:.0f} MB without the MQTT broker"


def _as_json(
    found: Outcome, observed: Observed, generated: GeneratorReport, settings: dict[str, Any]
) -> dict[str, Any]:
    memory = {
        kind: {"processes": count, "pss_bytes": size}
        for kind, (count, size) in observed.peak_memory.items()
    }
    return {
        "settings": settings,
        **outcome_json(found),
        "good": found.good,
        "peak_backlog": observed.peak_backlog,
        "memory": memory,
        "cpu_s": observed.cpu_s,
        "generator": asdict(generated),
        "farm_latency": observed.snapshot.get("latency", {}),
    }
