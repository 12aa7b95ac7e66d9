"""Every --help as a user sees it: complete, 80 columns wide, with examples that can be copied."""

from __future__ import annotations

import re

import click
import command_lines
import pytest
from click.testing import CliRunner

from farm.cli import COMMANDS, root
from farm.cli.group import first_sentence
from farm.errors import ConfigError

TREE = {
    " ".join(names): (command, context) for names, command, context in command_lines.command_tree()
}
WIDTH = 80
COMMENT_COLUMN = re.compile(r"\s{2,}\S.*")


def help_of(path):
    done = CliRunner().invoke(root, [*path.split(), "--help"], terminal_width=WIDTH)
    assert done.exit_code == 0
    return done.output


def examples_of(path):
    marked = (TREE[path][0].help or "").partition("Example")[2]
    below = marked.partition("\n")[2].partition("\n\n")[0]
    return [line.strip() for line in below.splitlines() if line.strip()]


@pytest.mark.parametrize("path", TREE)
def test_the_examples_of_a_help_stand_on_their_own_lines(path):
    # prevents: examples run together into a paragraph behind a literal \b
    shown = help_of(path)
    assert "\\b" not in shown
    assert "\b" not in shown
    lines = [line.strip() for line in shown.splitlines()]
    assert examples_of(path)
    for example in examples_of(path):
        assert example in lines, shown


@pytest.mark.parametrize("path", TREE)
def test_the_examples_of_a_help_are_commands_that_there_are(path, monkeypatch):
    # prevents: an option that was renamed lives on in an example, and who copies it gets an error
    monkeypatch.setattr(click.Path, "convert", lambda _, value, __, ___: value)
    lines = (COMMENT_COLUMN.sub("", example) for example in examples_of(path))
    typed = [words for line in lines for words in command_lines.commands(line)]
    found = [" ".join(command_lines.parse(list(w[1:]))[0]) for w in typed if w[0] == "farm"]
    assert any(names.startswith(path) for names in found), found


@pytest.mark.parametrize("path", TREE)
def test_a_help_fits_into_80_columns(path):
    # prevents: lines broken by the terminal, in which no column is one any more
    assert max(map(len, help_of(path).splitlines())) <= WIDTH


@pytest.mark.parametrize("path", TREE)
def test_a_command_says_in_one_sentence_what_it_is_for(path):
    # prevents: a list of commands in which one is cut, or has nothing said of it
    told = first_sentence(TREE[path][0].help)
    assert re.fullmatch(r"[A-Z].{10,120}[.:]", told), told


def test_the_list_of_commands_says_what_each_of_them_says_of_itself():
    # prevents: the table of the root, which imports nothing, telling of commands of yesterday
    assert set(COMMANDS) == {path for path in TREE if path and " " not in path}
    for told in COMMANDS.values():
        assert re.fullmatch(r"[A-Z].{10,90}\.", told), told


@pytest.mark.parametrize("path", TREE)
def test_an_option_says_what_it_does_and_what_it_is_without(path):
    # prevents: an option whose effect or default must be looked up in the code
    for option in TREE[path][0].params:
        if not isinstance(option, click.Option) or option.hidden:
            continue
        assert option.help, option.opts
        is_number = isinstance(option.type, click.types.IntRange | click.types.FloatRange)
        if is_number and not option.required:
            assert option.show_default or "[" in option.help, option.opts


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


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["strt"], "'start'"),
        (["dead", "lst"], "'list'"),
        (["dead", "xyz"], "There are: drop, list, retry, show"),
        (["stats", "--onc"], "'--once'"),
    ],
)
def test_a_slip_of_the_pen_is_met_with_the_nearest_name(typed, meant):
    # prevents: "No such command", and the search through two pages of help
    done = CliRunner().invoke(root, typed)
    assert done.exit_code == 2
    assert meant in done.output
