"""`farm why`: the story of one hole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from farm import wire
from farm.cli import known
from farm.cli.operator import TIMEOUT_S, place
from farm.cli.options import config_option, state_dir_option
from farm.control import ask
from farm.errors import FarmError, NoFarmError
from farm.journal.reader import JournalReader, KeptHole
from farm.journal.records import HoleState
from farm.printable import json_line, printable
from farm.telemetry.life import as_data, data_of_message, line_of_other, lines_of_hole

if TYPE_CHECKING:
    from pathlib import Path

_AT_WORK = "the farm is at work on it"
_NO_FARM = "no farm runs; it is taken up when one is started"


@click.command()
@config_option
@state_dir_option
@click.argument("tool", shell_complete=known.tools)
@click.argument("result_id", shell_complete=known.results)
@click.option("--json", "as_json", is_flag=True, help="Print it as one line of JSON.")
def command(
    config_path: Path | None, state_dir: Path | None, tool: str, result_id: str, *, as_json: bool
) -> None:
    """Tell the story of a hole: messages, waits, attempts, workers, what was published.

    TOOL is the source, toolbox/tool, or its last part. A hole that was sent or retried more than
    once has a story for each time. Works beside a running farm, and without one.

    \b
    Examples:
      farm why BOX-7/UNIT-2 440
      farm why UNIT-2 440 --json | jq '.holes[0].lives'
    """
    directory, control = place(config_path, state_dir)
    with JournalReader(directory) as journal:
        holes = journal.find(tool, result_id)
        others = journal.others_of(tool, result_id)
        if not holes and not others:
            raise FarmError(
                f"nothing is known of {tool} {result_id}: its messages never came, or came before "
                "what the journal keeps (journal.keep_s). TOOL is toolbox/tool, or tool"
            )
        stories, present = _open_stories(holes, control)
        told = [
            (hole, journal.messages_of(hole), stories.get(str(hole.hole_id), hole.story))
            for hole in holes
        ]
    if as_json:
        loose = [data_of_message(message) for message in others]
        found = {"holes": [as_data(*one) for one in told], "messages": loose}
        click.echo(json_line(found))
        return
    for hole, messages, story in told:
        for line in lines_of_hole(hole, messages, story, present=present):
            click.echo(printable(line))
    if others:
        click.echo("messages of this id in no hole")
        for message in others:
            click.echo(printable(line_of_other(message)))


def _open_stories(holes: list[KeptHole], control: str) -> tuple[dict[str, Any], str]:
    """The stories of holes that a running farm is at work on, by id; and what is to be said."""
    keys = {(h.source, h.part_id) for h in holes if h.state is HoleState.OPEN}
    stories: dict[str, Any] = {}
    for source, part_id in keys:
        try:
            reply = ask(control, wire.StoryRequest(source, part_id), timeout_s=TIMEOUT_S)
        except NoFarmError:
            return stories, _NO_FARM
        if isinstance(reply, wire.StoryReply):
            stories |= reply.stories
    return stories, _AT_WORK
