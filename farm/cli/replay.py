"""`farm replay`: publish recorded or simulated holes to any MQTT broker."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from farm.errors import ExitCode, FarmError
from farm.printable import printable
from farm.simulation.archive import read_archive
from farm.simulation.gateway import ROOT
from farm.simulation.mqtt import BrokerAddress
from farm.simulation.schedule import Plan
from farm.simulation.units import DrillingUnits, Playlist, UnitsReport, fresh_first_id

if TYPE_CHECKING:
    from farm.simulation.archive import RecordedHole

TICK_S = 0.1
PLAIN_LINE_EVERY_S = 5.0


@click.command()
@click.argument(
    "folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--host", default="localhost", show_default=True, help="MQTT broker.")
@click.option(
    "--port", type=click.IntRange(1, 65_535), default=1883, show_default=True, help="Its port."
)
@click.option("--username", default="", help="Name to log in with.")
@click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File whose first line is the password.",
)
@click.option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Connect with TLS, trusting these certificates (PEM).",
)
@click.option("--root", default=ROOT, show_default=True, help="First level of every topic.")
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=10,
    show_default=True,
    help="Holes per second.",
)
@click.option(
    "--count",
    type=click.IntRange(1),
    help="Holes in all; repeats them as needed.  [default: each once]",
)
@click.option(
    "--tools",
    type=click.IntRange(0),
    default=0,
    help="Spread over so many tools.  [default: as recorded]",
)
@click.option("--keep-ids", is_flag=True, help="Publish exactly as recorded, repeats included.")
@click.option("--shuffle", is_flag=True, help="The messages of a hole in any order.")
@click.option(
    "--skew",
    "skew_s",
    type=click.FloatRange(0),
    default=0.0,
    help="Spread the messages of a hole over up to so many seconds.  [default: none]",
)
def command(
    folder: Path,
    *,
    host: str,
    port: int,
    username: str,
    password_file: Path | None,
    ca_file: Path | None,
    root: str,
    rate: float,
    count: int | None,
    tools: int,
    keep_ids: bool,
    shuffle: bool,
    skew_s: float,
) -> None:
    """Publish the holes in DIR: folders with ResultManagement.json, Trace.json, perhaps Heads.json.

    Each hole gets a fresh result id, so that it counts as a new one however often it is replayed.
    Exit code 1 when the broker did not acknowledge every message. Ctrl-C stops the publishing, a
    second one the wait for acknowledgements.

    \b
    Examples:
      farm replay samples
      farm replay samples --host plant-mqtt --rate 100 --count 6000 --tools 20
      farm replay samples/01-MDB-2024-12 --keep-ids
    """
    if keep_ids and tools:
        raise click.UsageError(
            "--tools renames the tools, --keep-ids publishes as recorded: choose one"
        )
    holes = read_archive(folder)
    address = BrokerAddress(host, port, username, _password(password_file), ca_file)
    first_id = None if keep_ids else fresh_first_id()
    playlist = Playlist(holes, root=root, tools=tools, first_id=first_id)
    plan = Plan(rate, count or len(holes), shuffle=shuffle, skew_s=skew_s)
    units = DrillingUnits(address, playlist.next_hole, plan)
    units.connect()
    started_s = time.monotonic()
    report, is_patient = _run(units, plan, holes)
    if is_patient:
        units.close()  # with a broker that is stuck this would wait, too
    _tell(report, time.monotonic() - started_s, plan, address, is_patient=is_patient)


def _password(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FarmError(f"{file}: {error}") from error
    return lines[0].strip() if lines else ""


def _run(units: DrillingUnits, plan: Plan, holes: list[RecordedHole]) -> tuple[UnitsReport, bool]:
    """Publish, showing how far it is; Ctrl-C ends after the hole under way.

    Returns:
        What was published, and False when a second Ctrl-C ended the wait for acknowledgements.
    """
    sender = threading.Thread(target=units.run, name="units", daemon=True)
    console = Console(stderr=True)
    columns = (TextColumn("publishing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console.print(f"{len(holes)} recorded holes, {plan.count} to publish at {plan.rate_hz:g}/s")
    interrupts: list[int] = []
    # Counted and not raised: the second may come while the first is still being told.
    before = signal.signal(signal.SIGINT, lambda signum, _frame: interrupts.append(signum))
    try:
        sender.start()
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("", total=plan.count)
            is_stopping = False
            while not units.ended.wait(TICK_S) and len(interrupts) <= 1:
                if interrupts and not is_stopping:
                    is_stopping = True
                    units.stop()
                    waiting = units.report().messages.open
                    console.print(f"stopping: {waiting} messages wait for their acknowledgement")
                progress.update(task, completed=units.report().holes)
            progress.update(task, completed=units.report().holes)
    finally:
        signal.signal(signal.SIGINT, before)
    return units.report(), units.ended.is_set()


def _tell(
    report: UnitsReport, took_s: float, plan: Plan, address: BrokerAddress, *, is_patient: bool
) -> None:
    messages = report.messages
    click.echo(
        f"{report.holes} of {plan.count} holes published to {address} in {took_s:.1f} s"
        f" ({report.holes / took_s:.1f}/s): {messages.sent} messages,"
        f" {messages.acknowledged} acknowledged"
    )
    for reason, number in messages.refused.items():
        click.echo(f"refused by the broker: {number} x {printable(reason)}", err=True)
    if not is_patient:
        click.echo(f"not acknowledged: {messages.open}; no longer waited for", err=True)
    elif messages.open and not messages.refused:
        click.echo(f"not acknowledged: {messages.open}; the broker is gone or stuck", err=True)
    if messages.acknowledged < messages.sent or not is_patient:
        raise SystemExit(ExitCode.FAILURE)
