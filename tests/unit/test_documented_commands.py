"""Every command that a page shows or names is one that there is, down to its options.

tests/integration/test_documented_runs.py runs those that can be run.
"""

from __future__ import annotations

import contextlib
import re

import click
import command_lines
import pytest
from command_lines import SHELL, blocks, lines_of, pages, spans

from farm.cli import root

NAMES = [page.name for page in pages()]
LINES = [line for page in pages() for line in lines_of(page)]
# Of the checkout, beside `farm`: they take no arguments but those of pytest and of tests.fuzz.
OURS = {"test", "fuzz"}
# What an operator has beside it.
OTHERS = {
    *(
        "cd",
        "cp",
        "mv",
        "ln",
        "sh",
        "mkdir",
        "tar",
        "rsync",
        "ls",
        "du",
        "install",
        "chown",
        "source",
        "git",
    ),
    *("sudo", "useradd", "systemctl", "journalctl", "systemd-analyze", "supervisorctl"),
    *("mosquitto_sub", "mosquitto_pub", "mosquitto_passwd", "jq", "ray", "ssh", "scp", "curl"),
    *(
        "prometheus",
        "promtool",
        "base64",
        "tr",
        "umask",
        "openssl",
        "check-jsonschema",
        "export",
        "kill",
        "pip",
        "sort",
        "uniq",
        "head",
        "apt",
    ),
}
OPTION = re.compile(r"--?[a-z][a-z-]*")


@pytest.mark.parametrize("line", LINES, ids=str)
def test_a_command_of_a_page_can_be_typed(line, monkeypatch):
    # prevents: a page that is copied from, and the answer is "No such option"
    monkeypatch.setattr(click.Path, "convert", lambda _, value, __, ___: value)
    if line.program == "farm":
        with contextlib.suppress(click.exceptions.Exit):  # --help
            command_lines.parse(line.arguments)
    else:
        assert line.program in OURS | OTHERS, f"{line}: add it to the programs that one has"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_commands_stand_in_blocks_that_are_looked_at(page):
    # prevents: a block of commands without its language, which the tests above pass by
    for language, text in blocks(page):
        for line in text.splitlines():
            if re.match(r"\s*(\$ |(bin/)?farm [a-z]+( |$))", line):
                assert language in command_lines.SHELLS, f"mark it ```{SHELL}: {line}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_a_command_that_is_named_in_prose_is_there(page):
    # prevents: a page that sends people to a command or an option of another name
    for span in spans(page):
        words = span.split()[1:]
        command: click.Command = root
        context = click.Context(root, info_name="farm")
        while words and isinstance(command, click.Group):
            if (found := command.get_command(context, words[0])) is None:
                break
            command, context = found, click.Context(found, info_name=words[0], parent=context)
            words.pop(0)
        assert command is not root or words[0].startswith("-"), f"{page.name}: {span}"
        known = {
            name for option in command.params for name in (*option.opts, *option.secondary_opts)
        }
        for word in words:
            if OPTION.fullmatch(word) and len(word) > 1:
                assert word in {*known, "--help", "--version"}, f"{page.name}: {span}"
