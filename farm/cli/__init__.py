"""The command line: one command a file, imported only when it is called.

`farm --help` must answer at once, so nothing but click is imported here.
"""

from __future__ import annotations

import errno
import importlib
import sys
from typing import TYPE_CHECKING

import click

from farm import __version__
from farm.cli.group import Group
from farm.errors import FarmError
from farm.printable import printable_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

# Each name is a module of this package that defines `command`. The order is the order of the help.
COMMANDS = {
    "start": "Run the farm: the broker process and its workers, in the foreground.",
    "stats": "Show what a running farm is doing.",
    "dashboard": "Show what happens in a browser: holes, tools, dead letters, the farm.",
    "why": "Tell the story of a hole: waits, attempts, workers, what was published.",
    "dead": "List, show, retry and drop dead letters.",
    "rerun": "Compute a hole again from the very bytes, and compare.",
    "journal": "Look for damage in the journal.",
    "pause": "Have a running farm take in nothing more, until `farm resume`.",
    "resume": "Have a running farm take in again, after `farm pause`.",
    "scale": "Have a running farm keep more or fewer local workers.",
    "logs": "Have a running farm log more, or less, for a while.",
    "workers": "List the workers of a running farm, or have one leave.",
    "keys": "Let workers on other machines attach, or shut them out.",
    "partition": "Have several farms share the tools of a site.",
    "reload": "Have a running farm read its configuration again and replace its workers.",
    "demo": "Run the whole main job on this machine with simulated drilling units.",
    "record": "Keep the units' messages in a file, from MQTT or from the journal.",
    "recording": "Show what is in a recording, and what was answered.",
    "replay": "Publish a recording or sample holes to an MQTT broker, and compare the answers.",
    "bench": "Measure how much a farm carries, and how near that is to the limit.",
    "chaos": "Break a farm under load at random, and check that nothing was lost.",
    "doctor": "Look for what would fail, here and at the MQTT broker.",
    "config": "Check, show and describe the configuration.",
    "completion": "Print the script by which a shell completes `farm` with the Tab key.",
    "worker": "Run one worker, under the supervisor or by hand.",
    "broker": "Run the broker process alone (what `farm start` supervises).",
    "simulate": "Write simulated holes as message files.",
    "train": "Train the depth network, on simulated holes and your own.",
    "models": "List, show and verify the models.",
    "plot": "Draw a hole with its keypoints.",
    "evaluate": "Score models on simulated and recorded holes, with plots.",
}

# Other names of commands, for fingers that know them from elsewhere: not in the help.
ALIASES = {"top": "stats"}

# Started by `farm start`, never by hand: not in the help.
HIDDEN = ("nursery", "fleet")


class LazyGroup(Group):
    """A group that imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names of all commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command, imported now."""
        cmd_name = ALIASES.get(cmd_name, cmd_name)
        if cmd_name not in COMMANDS and cmd_name not in HIDDEN:
            return None
        found = importlib.import_module(f"farm.cli.{cmd_name}").command
        assert isinstance(found, click.Command)
        return found

    def sentences(self, ctx: click.Context) -> Mapping[str, str]:  # noqa: ARG002
        """What each command is for, from the table above, without importing any of them."""
        return COMMANDS


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="farm")
def root() -> None:
    """MQTT messages in, joined, a resident model run on them, the answer out over MQTT.

    \b
    Examples:
      farm demo                       see it work, on this machine alone
      farm start --workers 10 --config etc/farm.yaml
      farm doctor                     what would fail here, and the cure
      farm stats                      watch it live
      farm completion bash            have the Tab key complete all this

    What the exit codes mean stands in docs/exit-codes.md, what to do about a symptom in
    docs/troubleshooting.md.
    """


def main() -> None:
    """Run the command line; errors of our own become one line and a named exit code."""
    try:
        root.main(prog_name="farm", standalone_mode=True)
    except FarmError as error:
        # names and reasons in it may be a stranger's; a list of problems has a line for each
        click.echo(printable_lines(f"farm: {error}"), err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        click.echo(f"farm: {error.strerror}: make room, then try again", err=True)
        sys.exit(1)
