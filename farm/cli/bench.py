"""`farm bench`: how much a farm carries, what a hole costs, and how near that is to the limit."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click
import yaml
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from farm.cli.rig_options import (
    durability_option,
    durable_mqtt_option,
    engine_option,
    workers_option,
)
from farm.config import load_config
from farm.cores import cores
from farm.drilling.plotting import require
from farm.errors import ExitCode, FarmError
from farm.models.null import MAX_COST_MS
from farm.models.runtime import RUNTIMES
from farm.simulation.bench.drive import Load
from farm.simulation.bench.figures import summarise
from farm.simulation.bench.packets import MAX_TOOLS
from farm.simulation.bench.plot import write_plot
from farm.simulation.bench.report import as_json, problems, render, title
from farm.simulation.bench.rounds import AGAINST, NULL_MODEL, Orders, Rounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from farm.simulation.bench.rounds import Round

PLAIN_LINE_EVERY_S = 5.0
LEAST_IN_FLIGHT = 64
IN_FLIGHT_PER_WORKER = 4
SIGINT_STATUS = 130


def _assigned(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, Any]:
    """The values by key, read as the configuration file would."""
    found = {}
    for value in values:
        key, is_given, text = value.partition("=")
        if not is_given:
            raise click.BadParameter(f"{value}: must be KEY=VALUE")
        try:
            found[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise click.BadParameter(f"{value}: the value can't be read: {error}") from error
    return found


@click.command()
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    help="Holes per second of an open loop.  [default: a closed loop, as many as it can]",
)
@click.option(
    "--in-flight",
    type=click.IntRange(1),
    help="Unanswered holes that the closed loop keeps.  [default: 4 a worker, at least 64]",
)
@click.option(
    "--duration",
    type=click.FloatRange(0, min_open=True),
    default=20,
    show_default=True,
    help="Seconds that are measured.",
)
@click.option(
    "--warm-up",
    "warm_up_s",
    type=click.FloatRange(0),
    default=5,
    show_default=True,
    help="Seconds of load before them.",
)
@click.option(
    "--repeat", type=click.IntRange(1), default=1, show_default=True, help="Rounds; medians count."
)
@workers_option(10)
@click.option(
    "--tools",
    type=click.IntRange(1, MAX_TOOLS),
    default=20,
    show_default=True,
    help="Drilling units.",
)
@click.option(
    "--trace-kb",
    type=click.FloatRange(0, min_open=True),
    default=20,
    show_default=True,
    help="Size of the traces, about.",
)
@click.option(
    "--heads/--no-heads", default=True, show_default=True, help="A third message for each hole."
)
@click.option(
    "--holes-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Publish the holes of this folder instead of simulated ones.",
)
@click.option(
    "--model",
    default="",
    metavar="SPEC",
    help="As `model:` in the configuration; null: one that does nothing, null:2.5: one that takes "
    "2.5 ms of CPU time a hole.  [default: built-in]",
)
@click.option(
    "--runtime",
    type=click.Choice(RUNTIMES),
    help="Of the built-in model.  [default: its own]",
)
@durability_option()
@click.option(
    "--set",
    "assignments",
    metavar="KEY=VALUE",
    multiple=True,
    callback=_assigned,
    help="Any other setting of the farm, by its dotted key; may be given several times.",
)
@engine_option
@durable_mqtt_option()
@click.option(
    "--against",
    type=click.Choice(AGAINST),
    multiple=True,
    help="Measure a plain design beside it: a process pool that is given dicts (pool) or bytes"
    " (raw), or one process that does it all (plain).",
)
@click.option(
    "--limits/--no-limits",
    default=True,
    show_default=True,
    help="Measure the model alone and bare MQTT beside it.",
)
@click.option(
    "--replace",
    "kills",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Kill so many workers under light load, and see how soon they are replaced.  [default: "
    "none]",
)
@click.option("--poisson", is_flag=True, help="With --rate: holes at random moments.")
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Of holes and schedule."
)
@click.option("--json", "in_json", is_flag=True, help="Print the result as one JSON object.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="Draw throughput, latency, stages, CPU and memory.",
)
def command(
    *,
    rate: float | None,
    in_flight: int | None,
    duration: float,
    warm_up_s: float,
    repeat: int,
    workers: int,
    tools: int,
    trace_kb: float,
    heads: bool,
    holes_dir: Path | None,
    model: str,
    runtime: str | None,
    durability: str,
    assignments: dict[str, Any],
    engine: str,
    durable_mqtt: bool,
    against: tuple[str, ...],
    limits: bool,
    kills: int,
    poisson: bool,
    seed: int,
    in_json: bool,
    plot: Path | None,
) -> None:
    """Measure how much a farm carries, what a hole costs, and how near that is to the limit.

    Runs an MQTT broker and a farm of its own. Without --rate it keeps so many holes in flight and
    counts what comes back; with it, it publishes on a schedule that waits for nobody. Beside the
    farm it measures the model alone on all cores, and a bare MQTT client of paho: no design with
    them can do more. The latency of a hole is the time from its last message published to its depth
    received, through the MQTT broker both ways. Exit code 1 when a hole went unanswered or was
    answered twice.

    \b
    Examples:
      farm bench
      farm bench --model null --trace-kb 200 -w 4
      farm bench --rate 100 --duration 60 --no-limits
      farm bench --against pool --against raw --repeat 5 --json
      farm bench --runtime int8 --durability off --set dispatch.job_timeout_s=5
      farm bench --replace 5 --duration 5 --plot bench.png
    """
    _check_plot(plot)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    load = Load(
        holes_dir=str(holes_dir or ""),
        tools=tools,
        rate_hz=rate or 0.0,
        in_flight=in_flight or max(LEAST_IN_FLIGHT, IN_FLIGHT_PER_WORKER * workers),
        warm_up_s=warm_up_s,
        duration_s=duration,
        heads=heads,
        poisson=poisson,
        seed=seed,
    )
    orders = Orders(
        load=load,
        trace_kb=trace_kb,
        workers=workers,
        settings=_settings(model, runtime, durability, assignments),
        engine=engine,
        durable_mqtt=durable_mqtt,
        repeat=repeat,
        limits=limits,
        against=tuple(dict.fromkeys(against)),
        kills=kills,
    )
    _run(orders, in_json=in_json, plot=plot)


def _run(orders: Orders, *, in_json: bool, plot: Path | None) -> None:
    """Measure, and print what was found; what was measured before a stop or an error stands.

    Raises:
        FarmError: a round could not be run.
    """
    done: list[Round] = []
    is_stopped = False
    failure: FarmError | None = None
    try:
        with _Display() as display, Rounds(orders, display.tell, done) as rounds:
            rounds.run()
    except KeyboardInterrupt:
        is_stopped = True
    except FarmError as error:
        if not done:
            raise
        failure = error  # the rounds before it took minutes, and stand
    if not done:
        click.echo("stopped before a round was at its end", err=True)
        sys.exit(SIGINT_STATUS)
    complaints = _show(done, orders, in_json=in_json, plot=plot)
    if is_stopped:
        click.echo(f"stopped after {len(done)} of {orders.repeat} rounds", err=True)
        sys.exit(SIGINT_STATUS)
    if failure is not None:
        click.echo(f"failed after {len(done)} of {orders.repeat} rounds", err=True)
        raise failure
    if complaints:
        sys.exit(ExitCode.FAILURE)


def _show(done: Sequence[Round], orders: Orders, *, in_json: bool, plot: Path | None) -> list[str]:
    """Print what the rounds say; returns the complaints."""
    found = summarise(done, is_null=orders.is_null)
    if in_json:
        click.echo(json.dumps(as_json(found, orders, done, cores())))
    else:
        click.echo(title(orders, cores()) + "\n")
        Console().print(render(found))
    if plot is not None:
        write_plot(found, done, plot, title=title(orders, cores()))
    complaints = list(problems(found))
    for line in complaints:
        click.echo(line, err=True)
    return complaints


def _check_plot(plot: Path | None) -> None:
    """Before minutes are spent on what can't be drawn."""
    if plot is None:
        return
    require("matplotlib")
    if plot.suffix.lower() != ".png":
        raise click.BadParameter(f"{plot}: must end in .png", param_hint="--plot")
    if not plot.absolute().parent.is_dir():
        raise click.BadParameter(f"{plot}: there is no such folder", param_hint="--plot")


def _null_model(model: str) -> tuple[str, float]:
    """The model's class, and the milliseconds that `null:MS` asks for."""
    name, colon, cost = model.partition(":")
    if name != "null":
        return model, 0.0
    try:
        cost_ms = float(cost) if colon else 0.0
    except ValueError:
        cost_ms = -1.0
    if not 0 <= cost_ms <= MAX_COST_MS:
        raise click.BadParameter(
            f"{model!r}: null:MS takes milliseconds, up to {MAX_COST_MS:g}", param_hint="--model"
        )
    return NULL_MODEL, cost_ms


def _settings(
    model: str, runtime: str | None, durability: str, assignments: dict[str, Any]
) -> dict[str, Any]:
    """The farm's configuration, by section; checked, so that no error has to come from its log."""
    if runtime and model:
        raise FarmError("--runtime is the built-in model's: leave out --model, or --runtime")
    model, cost_ms = _null_model(model)
    by_key = {
        "model": model,
        **({"model_settings": {"cost_ms": cost_ms}} if cost_ms else {}),
        "journal.durability": durability,
        **({"model_settings": {"runtime": runtime}} if runtime else {}),
        **assignments,
    }
    load_config(None, by_key, {})
    settings: dict[str, Any] = {}
    for key, value in by_key.items():
        *sections, name = key.split(".")
        section = settings
        for each in sections:
            section = section.setdefault(each, {})
        section[name] = value
    return settings


class _Display:
    """Shows how it goes: a line that changes on a terminal, else one now and then."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._spinner = Spinner("dots", "")
        self._live: Live | None = None
        self._next_line_s = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            # few redraws: they are made on the cores that are measured
            self._live = Live(
                self._spinner, console=self._console, transient=True, refresh_per_second=2
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, line: str) -> None:
        """How it goes."""
        if self._live is not None:
            self._spinner.update(text=Text(line))
        elif time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + PLAIN_LINE_EVERY_S
            self._console.print(Text(line))
