"""`farm replay`: publish a recording, or folders of holes, to any MQTT broker.

Owns the options. Folders are published here, a recording in `farm.cli.replay_recording`.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from farm.cli.options import config_option
from farm.cli.recording_options import (
    Duration,
    FaultList,
    Speed,
    selection,
    since_option,
    tool_option,
    until_option,
)
from farm.errors import ExitCode, FarmError
from farm.printable import printable
from farm.simulation.archive import read_archive
from farm.simulation.gateway import ROOT
from farm.simulation.mqtt import BrokerAddress
from farm.simulation.schedule import Plan
from farm.simulation.units import DrillingUnits, Playlist, UnitsReport, fresh_first_id

if TYPE_CHECKING:
    from collections.abc import Collection

    from farm.recording.faults import Faults
    from farm.simulation.archive import RecordedHole

TICK_S = 0.1
PLAIN_LINE_EVERY_S = 5.0
FOR_FOLDERS = frozenset({"root", "rate", "count", "tools", "shuffle", "skew_s"})
FOR_RECORDINGS = frozenset(
    {"speed", "faults", "seed", "window", "tool_patterns", "since_ns", "until_ns", "expect"}
    | {"save_results", "tolerance_mm", "wait_s", "dry_run", "as_json", "config_path"}
)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise click.BadParameter("with it every answer would pass: name millimetres, as 0.05")
    return value


@click.command()
@click.argument("path", metavar="FILE|DIR", type=click.Path(exists=True, path_type=Path))
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
@click.option(
    "--keep-ids/--renew-ids",
    "keep_ids",
    help="Publish exactly as recorded, repeats included; else each hole gets a fresh result id.",
)
@click.option("--root", default=ROOT, show_default=True, help="DIR: first level of every topic.")
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=10,
    show_default=True,
    help="DIR: holes per second.",
)
@click.option(
    "--count",
    type=click.IntRange(1),
    help="DIR: holes in all; repeats them as needed.  [default: each once]",
)
@click.option(
    "--tools",
    type=click.IntRange(0),
    default=0,
    help="DIR: spread over so many tools.  [default: as recorded]",
)
@click.option("--shuffle", is_flag=True, help="DIR: the messages of a hole in any order.")
@click.option(
    "--skew",
    "skew_s",
    type=click.FloatRange(0),
    default=0.0,
    help="DIR: spread the messages of a hole over up to so many seconds.  [default: none]",
)
@click.option(
    "--speed",
    metavar="1|N|max",
    type=Speed(),
    default="1",
    show_default=True,
    help="FILE: as fast as recorded, N times as fast, or as fast as the broker takes it.",
)
@click.option(
    "--faults",
    metavar="LIST",
    type=FaultList(),
    default="",
    help="FILE: dup=0.05,reorder,drop=0.01,delay=0.5s: messages twice, out of order, lost, late.",
)
@click.option(
    "--seed", type=int, default=1, show_default=True, help="FILE: same seed, same faults."
)
@click.option(
    "--window",
    type=click.IntRange(1, 60_000),
    default=200,
    show_default=True,
    help="FILE: messages on their way to the broker at once.",
)
@tool_option
@since_option
@until_option
@click.option(
    "--expect",
    metavar="RESULTS",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="FILE: hear the answers, and compare; exit code 1 when one differs.",
)
@click.option(
    "--save-results",
    metavar="RESULTS",
    type=click.Path(dir_okay=False, path_type=Path),
    help="FILE: hear the answers, and write them for --expect.",
)
@click.option(
    "--tolerance-mm",
    type=click.FloatRange(0),
    callback=lambda _context, _option, value: _finite(value),
    default=0.05,
    show_default=True,
    help="FILE: by how much a value may differ.",
)
@click.option(
    "--wait",
    "wait_s",
    metavar="DURATION",
    type=Duration(),
    help="FILE: give up after so long without an answer.  [default: the time window and 15 s]",
)
@click.option("--dry-run", is_flag=True, help="FILE: only show what is in it and would be sent.")
@click.option("--json", "as_json", is_flag=True, help="FILE: the outcome as one line of JSON.")
@config_option
@click.pass_context
def command(
    context: click.Context,
    *,
    path: Path,
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
    speed: float,
    faults: Faults,
    seed: int,
    window: int,
    tool_patterns: tuple[str, ...],
    since_ns: int | None,
    until_ns: int | None,
    expect: Path | None,
    save_results: Path | None,
    tolerance_mm: float,
    wait_s: float | None,
    dry_run: bool,
    as_json: bool,
    config_path: Path | None,
) -> None:
    """Publish a recording (FILE, of `farm record`), or the holes in DIR: folders with
    ResultManagement.json, Trace.json, perhaps Heads.json.

    Each hole gets a fresh result id, so that it counts as a new one however often it is replayed;
    answers are told under the recorded id. Where to is said by --host and --port alone; --config
    only says how topics and ids are read. Exit code 1 when the broker did not acknowledge every
    message, or an answer is not as expected. Ctrl-C stops the publishing, a second one all waiting.

    \b
    Examples:
      farm replay samples
      farm replay samples --host plant-mqtt --rate 100 --count 6000 --tools 20
      farm replay samples/01-MDB-2024-12 --keep-ids
      farm replay monday.farmrec --speed 10
      farm replay monday.farmrec --speed max --save-results monday.jsonl
      farm replay monday.farmrec --faults dup,reorder --expect monday.jsonl
    """
    address = BrokerAddress(host, port, username, _password(password_file), ca_file)
    is_folder = path.is_dir()
    _refuse_strangers(context, FOR_RECORDINGS if is_folder else FOR_FOLDERS, is_folder=is_folder)
    if not is_folder:
        from farm.cli.replay_recording import Wishes, replay_recording  # noqa: PLC0415 - numpy

        replay_recording(
            path,
            address,
            Wishes(
                speed=speed,
                faults=faults,
                seed=seed,
                window=window,
                chosen=selection(tool_patterns, since_ns, until_ns),
                keep_ids=keep_ids,
                expect=expect,
                save_results=save_results,
                tolerance_mm=tolerance_mm,
                wait_s=wait_s,
                dry_run=dry_run,
                as_json=as_json,
                config_path=config_path,
            ),
        )
        return
    if keep_ids and tools:
        raise click.UsageError(
            "--tools renames the tools, --keep-ids publishes as recorded: choose one"
        )
    holes = read_archive(path)
    first_id = None if keep_ids else fresh_first_id()
    playlist = Playlist(holes, root=root, tools=tools, first_id=first_id)
    plan = Plan(rate, count or len(holes), shuffle=shuffle, skew_s=skew_s)
    _replay_holes(address, holes, playlist, plan)


def _replay_holes(
    address: BrokerAddress, holes: list[RecordedHole], playlist: Playlist, plan: Plan
) -> None:
    units = DrillingUnits(address, playlist.next_hole, plan)
    units.connect()
    started_s = time.monotonic()
    report, is_patient = _run(units, plan, holes)
    if is_patient:
        units.close()  # with a broker that is stuck this would wait, too
    _tell(report, time.monotonic() - started_s, plan, address, is_patient=is_patient)


def _refuse_strangers(context: click.Context, names: Collection[str], *, is_folder: bool) -> None:
    """An option that would do nothing is a mistake."""
    for option in context.command.params:
        given = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if given and option.name in names:
            what, other = ("a folder", "recordings") if is_folder else ("a recording", "folders")
            raise click.UsageError(f"{option.opts[-1]} is for {other}, and FILE|DIR is {what}")


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
