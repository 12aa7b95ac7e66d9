"""`farm dead`: the holes that ended without an answer, and what is to become of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from farm import wire
from farm.cli import known
from farm.cli.group import Group
from farm.cli.operator import TIMEOUT_S, place
from farm.cli.options import config_option, make_folder, state_dir_option
from farm.control import ask
from farm.errors import ExitCode, FarmError, JournalError
from farm.journal.ids import asked, told
from farm.journal.reader import JournalReader, KeptHole, KeptMessage
from farm.printable import file_name, json_line, printable
from farm.telemetry.life import as_data, day_and_time, lines_of_hole

if TYPE_CHECKING:
    from collections.abc import Callable

_PRESENT = "it is no dead letter yet"
MAX_LISTED = 1_000_000
_A_BATCH = 500  # letters in one request


def _ids(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> tuple[int, ...]:
    """The ids that were written on the command line."""
    try:
        return tuple(map(asked, texts))
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


@click.group(cls=Group)
def command() -> None:
    """List, show, retry and drop dead letters: holes that ended without an answer of the model.

    A hole is a dead letter when it cost workers again and again, when the model or the reader
    failed on it, when MQTT refused its answer, or when it was shed. An error was published for
    each. It stays until you retry or drop it, at most for journal.keep_dead_s.

    \b
    Examples:
      farm dead list
      farm dead show 8123-42
      farm dead retry --all
    """


@command.command(name="list")
@config_option
@state_dir_option
@click.option(
    "--limit", type=click.IntRange(1, MAX_LISTED), default=50, show_default=True, help="How many."
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each.")
def list_letters(
    config_path: Path | None, state_dir: Path | None, limit: int, *, as_json: bool
) -> None:
    """List the dead letters, oldest first.

    \b
    Examples:
      farm dead list
      farm dead list --limit 10000 --json | jq -r .reason | sort | uniq -c
    """
    directory, _ = place(config_path, state_dir)
    with JournalReader(directory) as journal:
        letters = journal.dead_letters(limit=limit)
        count = journal.count_dead_letters()
    if as_json:
        for letter in letters:
            click.echo(json_line(as_data(letter, [], letter.story)))
        return
    if not letters:
        click.echo("no dead letters")
        return
    for line in _table(letters):
        click.echo(printable(line))
    if count > len(letters):
        click.echo(f"… {count - len(letters)} more: --limit {count}")


@command.command()
@config_option
@state_dir_option
@click.argument(
    "hole_ids",
    metavar="HOLE",
    nargs=1,
    callback=lambda c, p, t: _ids(c, p, (t,)),
    shell_complete=known.letters,
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write its messages to, one file each.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as one line of JSON.")
def show(
    config_path: Path | None,
    state_dir: Path | None,
    hole_ids: tuple[int],
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Tell the story of one, by the id that `farm dead list` shows.

    \b
    Examples:
      farm dead show 8123-42
      farm dead show 8123-42 --out /tmp/hole   its messages, as files
    """
    [hole_id] = hole_ids
    directory, _ = place(config_path, state_dir)
    with JournalReader(directory) as journal:
        hole = journal.hole(hole_id)
        if hole is None:
            raise FarmError(f"there is no hole {told(hole_id)} in the journal of {directory}")
        messages = journal.messages_of(hole)
        if as_json:
            click.echo(json_line(as_data(hole, messages, hole.story)))
        else:
            for line in lines_of_hole(hole, messages, hole.story, present=_PRESENT):
                click.echo(printable(line))
        if out is not None:
            _write_out(journal, messages, out)


def _write_out(journal: JournalReader, messages: list[KeptMessage], folder: Path) -> None:
    """Write what can be read, and name what can't."""
    make_folder(folder)
    lost = []
    for message in messages:
        try:
            (folder / file_name(f"{message.kind}.json")).write_bytes(journal.payload(message))
        except JournalError as error:
            lost.append(f"{message.kind}: {error}")
    click.echo(f"{len(messages) - len(lost)} messages written to {folder}", err=True)
    if lost:
        raise JournalError("not everything could be read: " + "; ".join(lost))


def _chosen(decorated: Callable[..., None]) -> Callable[..., None]:
    """The options with which letters are chosen."""
    for add in (
        click.option("--all", "is_all", is_flag=True, help="All dead letters."),
        click.argument(
            "hole_ids", metavar="[HOLE]...", callback=_ids, nargs=-1, shell_complete=known.letters
        ),
        state_dir_option,
        config_option,
    ):
        decorated = add(decorated)
    return decorated


@command.command()
@_chosen
def retry(
    config_path: Path | None, state_dir: Path | None, hole_ids: tuple[int, ...], *, is_all: bool
) -> None:
    """Have a running farm compute dead letters again, from the bytes that are kept.

    Each gets a new hole id, and is answered like any other; its tool hears a second time of it.

    \b
    Examples:
      farm dead retry 8123-42 8123-57
      farm dead retry --all
    """
    _have_handled(config_path, state_dir, hole_ids, wire.Retry, is_all=is_all)


@command.command()
@_chosen
def drop(
    config_path: Path | None, state_dir: Path | None, hole_ids: tuple[int, ...], *, is_all: bool
) -> None:
    """Have a running farm strike dead letters off the list. Nothing is published.

    \b
    Examples:
      farm dead drop 8123-42
      farm dead drop --all
    """
    _have_handled(config_path, state_dir, hole_ids, wire.Drop, is_all=is_all)


def _have_handled(
    config_path: Path | None,
    state_dir: Path | None,
    hole_ids: tuple[int, ...],
    request: type[wire.Retry | wire.Drop],
    *,
    is_all: bool,
) -> None:
    if is_all == bool(hole_ids):
        raise click.UsageError("name the holes, as `farm dead list` shows them, or give --all")
    directory, control = place(config_path, state_dir)
    wanted = list(hole_ids)
    if is_all:
        with JournalReader(directory) as journal:
            wanted = [letter.hole_id for letter in journal.dead_letters()]
    done, refused = 0, 0
    for start in range(0, len(wanted), _A_BATCH):
        batch = wanted[start : start + _A_BATCH]
        reply = ask(control, request(batch), timeout_s=TIMEOUT_S)
        if not isinstance(reply, wire.Handled):
            raise FarmError(f"the farm answered with {type(reply).__name__}")
        done += len(reply.done)
        refused += len(reply.refused)
        if request is wire.Retry and not is_all:
            for hole_id in reply.done:
                click.echo(f"computed again as {told(hole_id)}")
        for hole_id, why in reply.refused:
            click.echo(printable(f"{told(hole_id)}: {why}"), err=True)
    click.echo(f"{done} {'retried' if request is wire.Retry else 'dropped'}")
    if refused:
        raise click.exceptions.Exit(ExitCode.FAILURE)


def _table(letters: list[KeptHole]) -> list[str]:
    head = ("HOLE", "ENDED", "TOOL", "ID", "", "REASON")
    rows = [
        (
            told(letter.hole_id),
            day_and_time(letter.ended_s or letter.opened_s),
            letter.source,
            letter.part_id,
            letter.terminal,
            letter.reason or f"MQTT refused: {letter.refusals}",
        )
        for letter in letters
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head) - 1)]
    return [
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]])
        for row in (head, *rows)
    ]
