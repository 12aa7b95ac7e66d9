"""`farm demo`: the whole main job on this machine, with simulated drilling units."""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from farm.cli.rig_options import engine_option, workers_option
from farm.errors import ExitCode
from farm.simulation.drilled import mixed_templates
from farm.simulation.listener import AnswerListener
from farm.simulation.ports import LOOPBACK, free_port
from farm.simulation.report import Outcome, outcome
from farm.simulation.rig import Rig
from farm.simulation.schedule import Plan
from farm.simulation.summary import example_lines, latency_words, outcome_rows
from farm.simulation.units import DrillingUnits, simulated_fleet
from farm.telemetry.view import render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

TICK_S = 0.25
INTERRUPTED = 128 + signal.SIGINT  # what a shell reports of a program that Ctrl-C ended
PLAIN_LINE_EVERY_S = 2.0
# Longer than the farm's own window for the messages of a hole (30 s), after which it must have
# answered everything, if only with an error.
ANSWER_TIMEOUT_S = 40.0

# The messages of a hole come in any order within this time.
SKEW_S = 0.05
# Units of the oldest style send no Heads; their first holes wait this long before the farm knows.
# The default is made for slower gateways than ours.
HEADS_WAIT_S = 2 * SKEW_S


@click.command()
@click.option(
    "--holes",
    type=click.IntRange(0),
    default=200,
    show_default=True,
    help="Holes to drill; 0: until Ctrl-C.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=10,
    show_default=True,
    help="Holes per second.",
)
@click.option(
    "--tools", type=click.IntRange(1), default=6, show_default=True, help="Drilling units."
)
@workers_option(4)
@engine_option
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the simulated holes."
)
@click.option("--page", "has_page", is_flag=True, help="Serve the page meanwhile, and say where.")
def command(
    *, holes: int, rate: float, tools: int, workers: int, engine: str, seed: int, has_page: bool
) -> None:
    """Run the whole main job on this machine with simulated drilling units.

    Starts an MQTT broker on a free port and a farm in a temporary state directory, lets simulated
    units of all gateway styles publish holes, shows the farm at work, and sums up. Touches nothing
    else and leaves nothing behind. Exit code 1 when a hole went unanswered.

    \b
    Examples:
      farm demo
      farm demo --holes 0 --rate 50                until Ctrl-C
      farm demo --holes 0 --page                   with the page to look around in
      farm demo --engine amqtt                     without mosquitto
    """
    # An end by SIGTERM must clean up like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console()
    plan = Plan(rate, holes, shuffle=True, skew_s=SKEW_S)
    settings: dict[str, Any] = {"correlation": {"optional_wait_s": HEADS_WAIT_S}}
    if has_page:
        settings["page"] = {"listen": f"{LOOPBACK}:{free_port()}"}
    is_drilling = False
    try:
        with Rig(workers=workers, engine=engine, settings=settings) as rig:
            _wait_ready(rig, console)
            listener = AnswerListener(rig.broker.address)
            listener.connect()
            fleet = simulated_fleet(mixed_templates(seed=seed), tools=tools)
            units = DrillingUnits(rig.broker.address, fleet.next_hole, plan, seed=seed)
            units.connect()
            if has_page:
                console.print(f"page         http://{settings['page']['listen']}/")
            console.print(_opening(plan, tools))
            demo = _Demo(rig, units, listener, console)
            is_drilling = True
            demo.run()
            found = demo.outcome()
            units.close()
            listener.close()
            with console.status("stopping …"):
                rig.close()
    except KeyboardInterrupt:  # the rig is cleaned up already
        if is_drilling:
            raise
        click.echo("stopped before any hole was drilled", err=True)
        sys.exit(INTERRUPTED)
    _sum_up(console, found, listener)
    if not found.good:
        sys.exit(ExitCode.FAILURE)


class _Demo:
    """The part in which holes are drilled and answered."""

    def __init__(
        self, rig: Rig, units: DrillingUnits, listener: AnswerListener, console: Console
    ) -> None:
        self._rig = rig
        self._units = units
        self._listener = listener
        self._console = console
        self._sender = threading.Thread(target=units.run, name="units", daemon=True)
        self._snapshot: dict[str, Any] | None = None
        self._next_line_s = 0.0
        self._started_s = time.monotonic()

    def outcome(self) -> Outcome:
        """How it stands."""
        return outcome(self._units.report().sent_s, self._listener.answers())

    def run(self) -> None:
        """Watch until all is published and answered, or it takes too long."""
        self._sender.start()
        with self._display() as live:
            try:
                self._watch(live)
            except KeyboardInterrupt:
                # The first Ctrl-C ends the drilling; what was drilled is still answered.
                self._units.stop()
                self._watch(live)

    def _watch(self, live: Live | None) -> None:
        while not self._units.ended.wait(TICK_S):
            self._show(live)
        deadline_s = time.monotonic() + ANSWER_TIMEOUT_S
        while time.monotonic() < deadline_s and self.outcome().unanswered:
            self._listener.wait_for(self._units.report().holes, TICK_S)
            self._show(live)
        self._show(live)

    def _show(self, live: Live | None) -> None:
        self._rig.check_alive()
        self._snapshot = self._rig.stats() or self._snapshot
        if live is not None:
            live.update(self._picture(), refresh=True)
        elif time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + PLAIN_LINE_EVERY_S
            click.echo(self._line())

    def _picture(self) -> RenderableType:
        own = Text(self._line(), style="bold")
        if self._snapshot is None:
            return own
        return Group(
            render(self._snapshot, self._console.width, self._console.height - 3), Text(), own
        )

    def _line(self) -> str:
        found = self.outcome()
        backlog = self._snapshot["throughput"]["backlog"] if self._snapshot else 0
        return (
            f"{time.monotonic() - self._started_s:4.0f} s  holes in {found.holes}, answered"
            f" {found.answered}, backlog {backlog}, latency {latency_words(found.latency)}"
        )

    @contextmanager
    def _display(self) -> Iterator[Live | None]:
        if not self._console.is_terminal:
            yield None
            return
        with Live(self._picture(), console=self._console, auto_refresh=False) as live:
            yield live


def _wait_ready(rig: Rig, console: Console) -> None:
    broker = rig.broker
    console.print(f"MQTT broker  {broker.engine.value} on {broker.address}")
    started_s = time.monotonic()
    with console.status(f"farm         {rig.workers} workers load the model …") as status:
        rig.wait_ready(
            lambda ready: status.update(f"farm         {ready} of {rig.workers} workers ready …")
        )
    took_s = time.monotonic() - started_s
    console.print(f"farm         {rig.workers} workers ready in {took_s:.1f} s ({rig.state_dir})")


def _opening(plan: Plan, tools: int) -> str:
    what = f"{plan.count} holes" if plan.count else "holes until Ctrl-C"
    return f"units        {tools} tools drill {what} at {plan.rate_hz:g}/s\n"


def _sum_up(console: Console, found: Outcome, listener: AnswerListener) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    for name, value in outcome_rows(found):
        table.add_row(name, Text(value))
    console.print()
    console.print(table)
    lines = example_lines(listener.example())
    if lines:
        console.print("\nAn answer, as received over MQTT:", style="bold")
        for line in lines:
            console.print(Text(line), soft_wrap=True)
    if found.good:
        console.print("\nEvery hole was answered, and only once.", style="bold green")
    else:
        console.print("\nNot every hole was answered once.", style="bold red")
