"""`farm chaos`: break a farm under load at random, and check that nothing was lost."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from farm.cli.rig_options import durability_option, durable_mqtt_option, workers_option
from farm.errors import ExitCode
from farm.simulation.chaos.campaign import Campaign, Orders
from farm.simulation.chaos.check import check
from farm.simulation.chaos.faults import Fault, choose
from farm.simulation.chaos.poison import MODEL
from farm.simulation.chaos.report import as_json, rows, violation_lines

if TYPE_CHECKING:
    from farm.simulation.chaos.check import Verdict
    from farm.simulation.chaos.faults import Struck

MAX_SEED = 99_999
PLAIN_LINE_EVERY_S = 10.0
FAULT_NAMES = ", ".join(fault.value for fault in Fault)


def _names(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


@click.command()
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    default=5,
    show_default=True,
    help="Of load; draining comes on top.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=60,
    show_default=True,
    help="Holes per second.",
)
@workers_option(10)
@click.option(
    "--faults-per-s",
    "faults_hz",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Faults of processes and network a second; those of messages are shares of the holes.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    help="Of what breaks, and when.  [default: a random one, which is told]",
)
@click.option("--only", metavar="KIND,…", default="", callback=_names, help="These faults alone.")
@click.option("--without", metavar="KIND,…", default="", callback=_names, help="Not these faults.")
@durability_option("; with off, faults of the broker process lose holes")
@click.option(
    "--model",
    default=MODEL,
    show_default=True,
    help="Another one knows no poison: there will be none.",
)
@durable_mqtt_option(", so that it may be killed as well")
@click.option("--keep", is_flag=True, help="Keep the directory with logs and journal.")
@click.option("-v", "--verbose", is_flag=True, help="A line for each fault.")
@click.option("--json", "in_json", is_flag=True, help="Print the result as one JSON object.")
def command(
    *,
    minutes: float,
    rate: float,
    workers: int,
    faults_hz: float,
    seed: int | None,
    only: tuple[str, ...],
    without: tuple[str, ...],
    durability: str,
    model: str,
    durable_mqtt: bool,
    keep: bool,
    verbose: bool,
    in_json: bool,
) -> None:
    """Break a farm under load at random, and check that nothing was lost.

    Runs mosquitto and a farm of its own, kills, stops and disconnects their parts, and publishes
    holes that are late, double, malformed or deadly. Then it waits until all is done and compares
    what mosquitto took with the farm's journal and with what was heard. Exit code 1 when a hole was
    lost or published twice, or anything else does not come out even. See docs/chaos.md.

    \b
    Examples:
      farm chaos
      farm chaos --minutes 1 --seed 7 -v --keep
      farm chaos --only broker-kill,link-cut --faults-per-s 2
      farm chaos --durable-mqtt --rate 30 --without farm-kill
    """
    # An end by SIGTERM must clean up like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    faults = choose(only, without, is_durable=durable_mqtt)
    if model != MODEL:
        faults -= {Fault.POISON}
    orders = Orders(
        duration_s=60 * minutes,
        rate_hz=rate,
        workers=workers,
        faults_hz=faults_hz,
        seed=random.randint(0, MAX_SEED) if seed is None else seed,
        faults=faults,
        durability=durability,
        model=model,
        durable_mqtt=durable_mqtt,
        keep=keep,
    )
    console = Console(stderr=True)
    with Campaign(orders) as campaign:
        _wait_ready(campaign, console)
        console.print(_opening(orders))
        with _Display(console, campaign, is_verbose=verbose):
            history = campaign.run()
        verdict = check(history)
    _show(verdict, orders, in_json=in_json)
    if keep:
        console.print(f"kept: {campaign.rig.home}")
    if not verdict.is_good:
        sys.exit(ExitCode.FAILURE)


class _Display:
    """Shows how it goes: a live line on a terminal, else one now and then; faults where wanted."""

    def __init__(self, console: Console, campaign: Campaign, *, is_verbose: bool) -> None:
        self._console = console
        self._campaign = campaign
        self._is_verbose = is_verbose
        self._began_s = time.monotonic()
        self._next_line_s = 0.0
        self._live: Live | None = None
        campaign.tell = self._take

    def __enter__(self) -> None:
        if self._console.is_terminal:
            self._live = Live(self._line(), console=self._console, transient=True)
            self._live.start()

    def __exit__(self, *_details: object) -> None:
        if self._live is not None:
            self._live.stop()

    def _take(self, struck: Struck | None) -> None:
        if struck is not None and self._is_verbose:
            at_s = struck.at_s - self._began_s
            self._console.print(f"{at_s:6.1f} s  {struck.fault.value:18} {struck.what}")
        if self._live is not None:
            self._live.update(self._line())
        elif time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + PLAIN_LINE_EVERY_S
            self._console.print(self._line())

    def _line(self) -> Text:
        campaign = self._campaign
        shot = campaign.watch.stats
        open_holes = shot["jobs"]["unanswered"] if shot else "?"
        return Text(
            f"{time.monotonic() - self._began_s:4.0f} s  {campaign.phase}:"
            f" {len(campaign.drill.holes)} holes, {campaign.ear.holes} answers, {open_holes} open,"
            f" {campaign.watch.ready} workers, {campaign.faults_done} faults,"
            f" {len(campaign.watch.lives)} lives"
        )


def _wait_ready(campaign: Campaign, console: Console) -> None:
    count = campaign.orders.workers
    with console.status(f"{count} workers load the model …") as status:
        campaign.wait_ready(lambda ready: status.update(f"{ready} of {count} workers ready …"))


def _opening(orders: Orders) -> Text:
    return Text(
        f"{orders.rate_hz:g} holes/s and {orders.faults_hz:g} faults/s for"
        f" {orders.duration_s:g} s, {orders.workers} workers, durability {orders.durability},"
        f" seed {orders.seed}"
    )


def _show(verdict: Verdict, orders: Orders, *, in_json: bool) -> None:
    if in_json:
        told: dict[str, Any] = {"seed": orders.seed, **as_json(verdict)}
        click.echo(json.dumps(told))
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in rows(verdict):
        table.add_row(name, Text(value))
    console = Console()
    console.print(table)
    for line in violation_lines(verdict):
        console.print(Text(line, style="red"))
    if verdict.is_good:
        console.print("\nNothing was lost, nothing was published twice.", style="bold green")
    else:
        console.print(f"\n{len(verdict.violations)} violations.", style="bold red")
