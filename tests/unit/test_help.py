"""Every --help as a user sees it: click's marks are not text, and examples can be copied."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from farm.cli import COMMANDS, root
from farm.errors import ConfigError


def paths():
    """The words of every command and subcommand."""
    yield ()
    context = click.Context(root)
    for name in COMMANDS:
        yield (name,)
        command = root.get_command(context, name)
        if isinstance(command, click.Group):
            yield from ((name, sub) for sub in command.commands)


def find(path):
    command = root
    for name in path:
        command = command.get_command(click.Context(command), name)
    return command


@pytest.mark.parametrize("path", list(paths()), ids=" ".join)
def test_the_examples_of_a_help_stand_on_their_own_lines(path):
    # prevents: examples run together into a paragraph behind a literal \b
    shown = CliRunner().invoke(root, [*path, "--help"]).output
    assert "\\b" not in shown
    assert "\b" not in shown
    lines = [line.strip() for line in shown.splitlines()]
    marked = (find(path).help or "").partition("Example")[2]
    examples = [line.strip() for line in marked.splitlines()[1:] if line.strip()]
    assert examples or path == ("config",)
    for example in examples:
        assert example in lines, shown


def test_no_workers_here_is_a_choice():
    # prevents: a site with all workers started by hand that must lie on the command line
    for count, kind in (("0", ConfigError), ("-1", SystemExit)):
        done = CliRunner().invoke(root, ["start", "--workers", count, "-c", "/nowhere.yaml"])
        assert isinstance(done.exception, kind), done.output


def test_a_worker_refuses_what_is_no_endpoint():
    # prevents: a traceback from a thread, and exit code 0, for a mistyped address
    done = CliRunner().invoke(root, ["worker", "--connect", "plant-7:7003"])
    assert done.exit_code == 2
    assert "tcp://HOST:PORT" in done.output
