"""`farm record`: keep the units' messages in a file, from MQTT, the journal or a recording."""

from __future__ import annotations

import contextlib
import functools
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from farm.cli.operator import place
from farm.cli.options import config_option, load, state_dir_option
from farm.cli.record_progress import Progress
from farm.cli.recording_options import (
    Duration,
    selection,
    since_option,
    tool_option,
    until_option,
)
from farm.errors import ExitCode, FarmError
from farm.printable import printable

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator

    from farm.journal.reader import JournalReader
    from farm.recording.anonymous import Anonymiser
    from farm.recording.reader import RecordingReader
    from farm.recording.record import Gap, Message, Note
    from farm.recording.recorder import Recorder
    from farm.recording.selection import Selection
    from farm.recording.traffic import Traffic
    from farm.recording.watch import Limits
    from farm.recording.writer import RecordingWriter

SHOWN_REASONS = 5
LONG_READ_BYTES = 1_000_000_000
DAMAGED = "the source is damaged"


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--from",
    "origin",
    metavar="mqtt|journal|RECORDING",
    default="mqtt",
    show_default=True,
    help="Where the messages come from: the configured MQTT broker, the journal of a farm that"
    " runs or not, or another recording.",
)
@config_option
@state_dir_option
@tool_option
@since_option
@until_option
@click.option("--for", "for_s", metavar="DURATION", type=Duration(), help="Stop after 30s, 10m …")
@click.option(
    "--holes",
    type=click.IntRange(1),
    help="Stop once so many are complete.  [default: do not stop]",
)
@click.option("--results", "with_results", is_flag=True, help="Keep the farm's answers, too.")
@click.option(
    "--anonymise", is_flag=True, help="Make up all names, ids and serial numbers in what is kept."
)
@click.option("--shift-times", is_flag=True, help="With --anonymise: move all times by years.")
@click.option(
    "--key-file",
    metavar="KEY",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --anonymise: the same made-up names each time; made if it is missing.",
)
def command(
    file: Path,
    *,
    origin: str,
    config_path: Path | None,
    state_dir: Path | None,
    tool_patterns: tuple[str, ...],
    since_ns: int | None,
    until_ns: int | None,
    for_s: float | None,
    holes: int | None,
    with_results: bool,
    anonymise: bool,
    shift_times: bool,
    key_file: Path | None,
) -> None:
    """Keep messages in FILE, as they come, until Ctrl-C. A recording that is there is gone on with.

    Listens beside the farm, under a name of its own, and takes nothing from it. FILE is readable
    for you alone: traces are confidential. `farm replay FILE` plays it again.

    \b
    Examples:
      farm record monday.farmrec --config etc/farm.yaml
      farm record monday.farmrec --for 10m --results
      farm record incident.farmrec --from journal --since 2h --tool BOX-7/UNIT-2
      farm record to-share.farmrec --from monday.farmrec --anonymise --shift-times
    """
    from farm.journal.reader import JournalReader  # noqa: PLC0415 - numpy and paho, not for --help
    from farm.recording.recorder import Recorder  # noqa: PLC0415
    from farm.recording.traffic import Traffic  # noqa: PLC0415
    from farm.recording.watch import Limits  # noqa: PLC0415
    from farm.recording.writer import RecordingWriter  # noqa: PLC0415

    if not anonymise and (shift_times or key_file):
        raise click.UsageError("--shift-times and --key-file need --anonymise beside them")
    chosen = selection(tool_patterns, since_ns, until_ns)
    config = load(config_path, state_dir=state_dir).config
    traffic = Traffic(config)
    if not traffic.is_drilling and (with_results or anonymise):
        raise FarmError(
            "--results and --anonymise know the drilling units' messages alone, and traffic.adapter"
            f" is {config.traffic.adapter}: record without them"
        )
    anonymiser = _anonymiser(traffic, key_file, shift_times=shift_times) if anonymise else None
    limits = Limits(for_s, holes, until_ns)
    with contextlib.ExitStack() as stack:
        if origin == "mqtt":
            record = functools.partial(_from_mqtt, traffic=traffic)
        else:
            _refuse_clock(limits)
            if origin == "journal":
                directory, _ = place(config_path, state_dir)
                journal = stack.enter_context(JournalReader(directory))
                record = functools.partial(_from_journal, journal=journal, chosen=chosen)
            else:
                source = stack.enter_context(_source(Path(origin), file, is_anonymous=anonymise))
                record = functools.partial(_from_recording, reader=source)
        _tell_long_read(file)
        writer = stack.enter_context(
            RecordingWriter(
                file,
                # a true time would say by how much the others were moved
                now_ns=0 if shift_times else time.time_ns(),
                is_anonymous=anonymise,
                can_go_on=origin == "mqtt",
                removes_empty=True,
            )
        )
        stops = stack.enter_context(_interruptible())
        _tell_begin(writer)
        recorder = Recorder(writer, traffic, chosen, anonymiser)
        why = record(recorder, limits=limits, stops=stops, with_results=with_results)
        for reason, count in most_common(recorder.left_out):
            recorder.note(time.time_ns(), f"left out: {count} x {reason}")
        if with_results and recorder.unanswered:
            lacking = f"{len(recorder.unanswered)} holes have no whole answer in it"
            recorder.note(time.time_ns(), lacking)
            click.echo(f"{lacking}: --expect with it will call the answers to them extra", err=True)
        recorder.note(time.time_ns(), f"ended: {why}")
    _tell_end(recorder, why, origin)


def _anonymiser(traffic: Traffic, key_file: Path | None, *, shift_times: bool) -> Anonymiser:
    from farm.recording.anonymous import Anonymiser  # noqa: PLC0415
    from farm.recording.pseudonyms import Pseudonyms, read_key  # noqa: PLC0415

    return Anonymiser(traffic, Pseudonyms(read_key(key_file)), shifts_times=shift_times)


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], int]]:
    """Ctrl-C and SIGTERM are counted: what has come by then is kept.

    SIGTERM counts twice: whoever sends it does not wait for long.
    """
    caught: list[int] = []
    weights: dict[int, int] = {signal.SIGINT: 1, signal.SIGTERM: 2}
    numbers = tuple(weights)
    before = [signal.signal(n, lambda got, _frame: caught.append(weights[got])) for n in numbers]
    try:
        yield lambda: sum(caught)
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


# ---- the three origins ---------------------------------------------------------------------------


def _from_mqtt(
    recorder: Recorder,
    *,
    traffic: Traffic,
    limits: Limits,
    stops: Callable[[], int],
    with_results: bool,
) -> str:
    from farm.recording.subscription import Subscription  # noqa: PLC0415
    from farm.recording.watch import record_mqtt  # noqa: PLC0415

    settings = traffic.config.mqtt.broker
    subscription = Subscription(
        settings,
        filters=traffic.filters,
        answer_filters=traffic.answer_filters if with_results else (),
        is_answer=lambda topic: traffic.answer(topic) is not None,
    )
    recorder.note(time.time_ns(), "begun: mqtt")
    where = f"{settings.host}:{settings.port}"
    with Progress(recorder, where) as progress:
        try:
            why = record_mqtt(
                recorder,
                subscription,
                limits,
                stops=stops,
                on_progress=lambda: progress.look(subscription.problem),
                waits_for_answers=with_results,
                on_waiting=progress.tell_waiting,
            )
        finally:
            subscription.close()
    if subscription.unreadable:
        recorder.left_out["its topic is no UTF-8"] += subscription.unreadable
    return why


def _from_journal(
    recorder: Recorder,
    *,
    journal: JournalReader,
    chosen: Selection,
    limits: Limits,
    stops: Callable[[], int],
    with_results: bool,
) -> str:
    from farm.recording.recorder import kept_messages  # noqa: PLC0415

    recorder.note(time.time_ns(), "begun: journal")
    messages = kept_messages(journal, chosen, with_answers=with_results, gone=recorder.left_out)
    return _take_all(recorder, messages, limits, stops)


def _source(source: Path, file: Path, *, is_anonymous: bool) -> RecordingReader:
    """The recording that is to be copied."""
    from farm.recording.reader import RecordingReader  # noqa: PLC0415

    if source.exists() and file.exists() and source.samefile(file):
        raise click.UsageError("a recording can't be copied into itself: name another FILE")
    reader = RecordingReader(source, is_patient=True)
    if reader.header.is_anonymous and not is_anonymous:
        reader.close()
        raise FarmError(f"{source} is anonymous: add --anonymise, so that its copy says so, too")
    return reader


def _from_recording(
    recorder: Recorder,
    *,
    reader: RecordingReader,
    limits: Limits,
    stops: Callable[[], int],
    with_results: bool,
) -> str:
    from farm.recording.record import Message  # noqa: PLC0415

    recorder.note(time.time_ns(), "begun: another recording")
    records = (
        record
        for record in reader.records()
        if with_results or not isinstance(record, Message) or not record.is_answer
    )
    why = _take_all(recorder, records, limits, stops)
    if reader.unknown:
        recorder.left_out["it is of a kind that only a later farm knows"] += reader.unknown
    for problem in (reader.damage, f"{reader.path}: {reader.torn}" if reader.torn else ""):
        if problem:
            told = f"{problem}: what stands before it was kept"
            click.echo(printable(told), err=True)
            # without the name of the file, which may be somebody's
            recorder.note(time.time_ns(), told.replace(f"{reader.path}: ", "its source: "))
    return DAMAGED if reader.damage else why


def _take_all(
    recorder: Recorder,
    records: Iterator[Message | Gap | Note],
    limits: Limits,
    stops: Callable[[], int],
) -> str:
    with Progress(recorder) as progress:
        for record in records:
            if stops():
                return "stopped"
            recorder.take(record)
            progress.look("")
            if limits.holes is not None and recorder.tally.holes >= limits.holes:
                return "enough holes"
    return "all is kept"


def _refuse_clock(limits: Limits) -> None:
    if limits.for_s is not None:
        raise click.UsageError("--for is for MQTT: choose a time with --since and --until")


# ---- words ---------------------------------------------------------------------------------------


def _tell_long_read(file: Path) -> None:
    """An older recording is read to its end first, a second or two for each GB."""
    size = file.stat().st_size if file.is_file() else 0
    if size > LONG_READ_BYTES:
        click.echo(f"reading {file} ({size / 1e9:.1f} GB) to its end", err=True)


def _tell_begin(writer: RecordingWriter) -> None:
    if writer.torn is not None:
        click.echo(printable(f"{writer.path}: {writer.torn}"), err=True)
    if not writer.is_new:
        click.echo(f"going on with {writer.path} ({writer.size / 1e6:.1f} MB)", err=True)


def _tell_end(recorder: Recorder, why: str, origin: str) -> None:
    tally, writer = recorder.tally, recorder.writer
    ratio = writer.raw_bytes / writer.size if writer.is_new and tally.messages else 0.0
    smaller = f", {ratio:.1f} times smaller" if ratio else ""
    more = [(tally.answers, "answers"), (tally.gaps, "gaps")]
    told = "".join(f", {count} {what}" for count, what in more if count)
    click.echo(
        f"{why}: {tally.messages} messages of {len(tally.tools)} tools, {tally.holes} holes{told}"
        f" in {writer.path} ({writer.size / 1e6:.2f} MB{smaller})"
    )
    for reason, count in most_common(recorder.left_out):
        click.echo(printable(f"left out: {count} x {reason}"), err=True)
    if not tally.messages + tally.answers:
        hears = "does the farm hear anything (`farm stats`)? " if origin == "mqtt" else ""
        gone = "" if writer.path.exists() else f" {writer.path} was removed again."
        click.echo(
            f"nothing was recorded: {hears}Do --tool, --since and --until leave something?{gone}",
            err=True,
        )
        raise SystemExit(ExitCode.FAILURE)
    if why == DAMAGED:
        raise SystemExit(ExitCode.FAILURE)


def most_common(counts: Counter[str]) -> list[tuple[str, int]]:
    """The most frequent ones."""
    return counts.most_common(SHOWN_REASONS)
