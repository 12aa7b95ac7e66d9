"""`farm replay FILE`: the part of it that publishes a recording and compares the answers.

Not a command of its own: `farm.cli.replay` has the options.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Self

import click

from farm.cli.options import load
from farm.cli.progress_bar import ProgressBar
from farm.cli.recording import show_account
from farm.cli.replay_outcome import outcome, show_comparison
from farm.errors import ExitCode, FarmError
from farm.printable import json_line, printable
from farm.recording.account import Account, is_chosen
from farm.recording.expected import compare
from farm.recording.moments import told_duration
from farm.recording.player import plan
from farm.recording.reader import RecordingReader
from farm.recording.record import Message
from farm.recording.renewal import Renewal
from farm.recording.replayer import OUTAGE_S, Replayer
from farm.recording.results import check_place, read_results, write_results
from farm.recording.traffic import Traffic
from farm.simulation.units import fresh_first_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from farm.recording.expected import Comparison
    from farm.recording.faults import Faults
    from farm.recording.results import Results
    from farm.recording.selection import Selection
    from farm.simulation.mqtt import BrokerAddress

LOOK_S = 0.1
PAUSE_TOLD_S = 10.0  # of a replay
STALL_TOLD_S = 3.0  # without an acknowledgement
PATIENCE_S = 15.0  # beyond the time window, after which a hole that lacks a part is given up


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options of `farm replay` for a recording."""

    speed: float  # 0: as fast as the broker takes it
    faults: Faults
    seed: int
    window: int
    chosen: Selection
    keep_ids: bool
    expect: Path | None
    save_results: Path | None
    tolerance_mm: float
    wait_s: float | None
    dry_run: bool
    as_json: bool
    config_path: Path | None


def replay_recording(path: Path, address: BrokerAddress, wishes: Wishes) -> None:
    """Publish a recording, and end the program with its exit code.

    Raises:
        FarmError: the recording, the results or the broker can't be used.
    """
    traffic = Traffic(load(wishes.config_path).config)
    account = Account(path, traffic, wishes.chosen)
    if account.damage:
        raise FarmError(
            f"{account.damage}. `farm record NEW --from {path}` keeps what is before it"
        )
    if account.torn is not None:
        click.echo(printable(f"{path}: {account.torn}"), err=True)
    if not account.chosen.messages:
        raise FarmError(
            f"nothing of {path} would be published: "
            + (
                "do --tool, --since and --until leave something? `farm recording info` says what "
                "is in it"
                if account.tally.messages
                else "no messages are in it"
            )
        )
    if wishes.save_results is not None:
        check_place(wishes.save_results)
    if wishes.dry_run:
        _dry_run(path, account, traffic, wishes)
        return
    hears = wishes.expect is not None or wishes.save_results is not None
    if hears and not traffic.is_drilling:
        raise FarmError(
            "--expect and --save-results read the drilling units' answers alone, and traffic."
            f"adapter is {traffic.config.traffic.adapter}: replay without them"
        )
    expected = None if wishes.expect is None else read_results(wishes.expect, traffic)
    replayer = Replayer(
        address,
        traffic,
        speed=wishes.speed,
        faults=wishes.faults,
        seed=wishes.seed,
        first_id=None if wishes.keep_ids else fresh_first_id(),
        window=wishes.window,
        hears=hears,
    )
    replayer.connect()
    with _Interrupts(replayer) as interrupts:
        took_s = _publish(replayer, path, account, wishes, interrupts)
        is_acknowledged = _tell_published(replayer, address, took_s, wishes)
        comparison, is_kept = None, wishes.save_results is None
        is_heard = not (replayer.is_given_up or replayer.counts().refused)
        if hears and is_heard and not interrupts.has_given_up:
            comparison, is_kept = _answers(replayer, traffic, expected, wishes)
    if interrupts.has_given_up:
        click.echo("given up: no longer waited for", err=True)
    else:
        replayer.close()  # with a broker that is stuck this would wait, too
    if wishes.as_json:
        click.echo(json_line(outcome(replayer, comparison)))
    is_same = comparison is None or comparison.is_same
    is_good = is_acknowledged and is_kept and not interrupts.caught and is_same
    sys.exit(ExitCode.OK if is_good else ExitCode.FAILURE)


def messages_of(path: Path, traffic: Traffic, chosen: Selection) -> Iterator[Message]:
    """The messages of a recording that are to be published.

    Raises:
        RecordingError: it is damaged.
    """
    with RecordingReader(path) as reader:
        for record in reader.records():
            if isinstance(record, Message) and is_chosen(record, traffic, chosen):
                yield record


class _Interrupts:
    """Ctrl-C: the first stops the publishing, the second all waiting."""

    def __init__(self, replayer: Replayer) -> None:
        self._replayer = replayer
        self._before: Any = None
        self.caught = 0

    @property
    def has_given_up(self) -> bool:
        return self.caught > 1

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._catch)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _catch(self, _signum: int, _frame: object) -> None:
        self.caught += 1
        if self.caught > 1:
            self._replayer.give_up()
        else:
            self._replayer.stop()


def _dry_run(path: Path, account: Account, traffic: Traffic, wishes: Wishes) -> None:
    renewal = Renewal(traffic, first_id=None if wishes.keep_ids else fresh_first_id())
    parts = map(renewal.renew, messages_of(path, traffic, wishes.chosen))
    counts: Counter[str] = Counter()
    last_s = 0.0
    shots = plan(
        parts,
        speed=wishes.speed,
        elapsed_s=lambda: 0.0,
        faults=wishes.faults,
        rng=Random(wishes.seed),
    )
    for shot in shots:
        counts["dropped" if shot.is_dropped else "copies" if shot.is_copy else "messages"] += 1
        last_s = max(last_s, shot.due_s)
    told = {
        "messages": counts["messages"],
        "copies": counts["copies"],
        "dropped": counts["dropped"],
        "ids_kept": renewal.kept,
        "repeated_ids": renewal.repeated,
        "takes_s": round(last_s, 3) if wishes.speed else None,
    }
    if wishes.as_json:
        click.echo(json_line(account.data() | {"replay": told}))
        return
    show_account(path, account)
    takes = f"in {told_duration(last_s)}" if wishes.speed else "as fast as the broker takes them"
    click.echo(
        f"would publish {counts['messages']} messages and {counts['copies']} copies {takes},"
        f" and leave out {counts['dropped']}"
    )
    _tell_ids(renewal, traffic, wishes)


def _tell_ids(renewal: Renewal, traffic: Traffic, wishes: Wishes) -> None:
    if renewal.kept and not wishes.keep_ids:
        why = "they have none that can be changed"
        if not traffic.is_drilling:
            why = "the ids of this traffic.adapter can't be changed"
        click.echo(f"{renewal.kept} messages keep their ids: {why}", err=True)
    if renewal.repeated and wishes.keep_ids:
        window_s = traffic.config.mqtt.listener.time_window
        click.echo(
            f"{renewal.repeated} holes have an id that their tool used before: within"
            f" {window_s:g} s a farm takes them for repeats (without --keep-ids it does not)",
            err=True,
        )


# ---- publishing ----------------------------------------------------------------------------------


def _publish(
    replayer: Replayer,
    path: Path,
    account: Account,
    wishes: Wishes,
    interrupts: _Interrupts,
) -> float:
    """Publish, showing how far it is; the seconds that it took."""
    total = account.chosen.messages
    speed = f"{wishes.speed:g} times as fast" if wishes.speed else "as fast as the broker takes it"
    click.echo(
        f"{total} messages of {account.chosen.holes} holes, over"
        f" {told_duration(account.chosen.span_s)}, {speed}",
        err=True,
    )
    if wishes.speed and account.pause_ns / 1e9 > PAUSE_TOLD_S * wishes.speed:
        told = told_duration(account.pause_ns / 1e9 / wishes.speed)
        click.echo(
            f"of it, {told} are pauses in which nothing was recorded: --since and --until leave one"
            " out",
            err=True,
        )
    begin_s = time.monotonic()
    messages = messages_of(path, replayer.traffic, wishes.chosen)
    sender = threading.Thread(target=replayer.run, args=(messages,), name="replay", daemon=True)
    sender.start()
    with ProgressBar("publishing") as bar:
        is_told = is_stall_told = False
        while not replayer.ended.wait(LOOK_S) and not interrupts.has_given_up:
            played = replayer.played
            bar.update(played.messages - played.copies + played.dropped, total)
            if replayer.stalled_s < STALL_TOLD_S:
                is_stall_told = False
            elif not is_stall_told:
                is_stall_told = True
                where = f"waiting for the MQTT broker {replayer.address}"
                bar.say(f"{where}: no acknowledgement; at most {OUTAGE_S:g} s")
            if interrupts.caught and not is_told:
                is_told = True
                waiting = replayer.counts().open
                bar.say(f"stopping: {waiting} messages wait for their acknowledgement")
    if replayer.failure is not None:
        raise replayer.failure
    return time.monotonic() - begin_s


def _tell_published(
    replayer: Replayer, address: BrokerAddress, took_s: float, wishes: Wishes
) -> bool:
    """Say what was published; whether the broker has all of it."""
    played, counts = replayer.played, replayer.counts()
    faults = ""
    if wishes.faults:
        faults = f" ({played.copies} of them copies, {played.dropped} left out)"
    click.echo(
        f"{counts.sent} messages published to {address} in {took_s:.1f} s"
        f" ({counts.sent / max(took_s, 1e-9):.0f}/s){faults}: {counts.acknowledged} acknowledged",
        err=wishes.as_json,
    )
    if wishes.speed and played.max_late_s > 1:
        click.echo(f"at worst {played.max_late_s:.1f} s behind the recorded times", err=True)
    _tell_ids(replayer.renewal, replayer.traffic, wishes)
    for reason, number in counts.refused.items():
        click.echo(f"refused by the broker: {number} x {printable(reason)}", err=True)
    if replayer.is_given_up:
        click.echo(f"the MQTT broker {address} acknowledged nothing for {OUTAGE_S:g} s", err=True)
    if counts.open and not counts.refused:
        click.echo(f"not acknowledged: {counts.open}; the broker is gone or stuck", err=True)
    return counts.acknowledged == counts.sent and not replayer.is_given_up


# ---- answers -------------------------------------------------------------------------------------


def _answers(
    replayer: Replayer, traffic: Traffic, expected: Results | None, wishes: Wishes
) -> tuple[Comparison | None, bool]:
    """Wait for the answers, keep them, compare them.

    Returns:
        The comparison, and whether they are kept where that was wanted.
    """
    patience_s = wishes.wait_s
    if patience_s is None:
        patience_s = traffic.config.mqtt.listener.time_window + PATIENCE_S
    with ProgressBar("answers") as bar:
        is_complete = replayer.wait_answers(
            None if expected is None else expected.holes.keys(),
            patience_s=patience_s,
            on_progress=bar.update,
        )
    found = replayer.results()
    if not is_complete:
        click.echo(
            f"waited {patience_s:g} s in vain for the rest of the answers: does a farm listen"
            " there (`farm stats`)? --wait waits longer",
            err=True,
        )
    is_kept = _keep(found, replayer, wishes, is_complete=is_complete)
    if expected is None:
        return None, is_kept
    comparison = compare(
        expected,
        found,
        replayer.sent(),
        required=traffic.required,
        tolerance_mm=wishes.tolerance_mm,
        is_partial=not replayer.played.is_done or _is_partial(wishes.chosen),
        has_faults=bool(wishes.faults.drop or wishes.faults.duplicate),
    )
    if not wishes.as_json:
        show_comparison(comparison, wishes.tolerance_mm)
    return comparison, is_kept


def _keep(found: Results, replayer: Replayer, wishes: Wishes, *, is_complete: bool) -> bool:
    """Keep the answers, if all came: half of them would make a test that is wrong for ever."""
    if wishes.save_results is None:
        return True
    if is_complete and replayer.played.is_done:
        write_results(wishes.save_results, found)
        click.echo(f"{len(found.holes)} answers in {wishes.save_results}", err=wishes.as_json)
        return True
    click.echo(
        f"{len(found.holes)} answers came, and not all: {wishes.save_results} is left as it was",
        err=True,
    )
    return False


def _is_partial(chosen: Selection) -> bool:
    return chosen != type(chosen)()
