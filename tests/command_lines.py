"""Command lines as people find them in help texts and pages: taken apart, and parsed by click."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from farm.cli import root

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`((?:bin/)?farm (?:[a-z]|--)[^`]*)`(?!`)")
_ASSIGNMENT = re.compile(r"[A-Z_]+=.*")
_ENDS = {"&&", "||", ";", "|", "&", "(", ")"}
_REDIRECTIONS = {">", ">>", "<", "2>", ">&"}
SHELL = "sh"
SESSION = "console"  # commands behind a prompt, and what they print
SHELLS = (SHELL, SESSION)


@dataclass(frozen=True, slots=True)
class Line:
    """One command of a page."""

    page: str
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        """The name of what is run, without its folder."""
        return self.words[0].rpartition("/")[2]

    @property
    def arguments(self) -> list[str]:
        return list(self.words[1:])

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def pages() -> list[Path]:
    """README.md and every page of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each fenced block."""
    return _FENCE.findall(page.read_text(encoding="utf-8"))


def lines_of(page: Path) -> Iterator[Line]:
    """Every command of the shell blocks of a page."""
    for language, text in blocks(page):
        if language == SESSION:
            typed = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
        else:
            typed = [text] if language == SHELL else []
        for words in commands("\n".join(typed)):
            yield Line(page.name, words)


def spans(page: Path) -> list[str]:
    """What a page names in its prose, such as `farm dead list`."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [" ".join(found.split()) for found in _SPAN.findall(text)]


def commands(text: str) -> Iterator[tuple[str, ...]]:
    """The commands of a shell script: the words of each, without redirections and assignments."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        is_target = False
        for word in (*lexer, ";"):
            if word in _ENDS:
                if words:
                    yield _without_sudo(words)
                words = []
            elif word in _REDIRECTIONS:
                is_target = True
                if words and words[-1] == "2":
                    words.pop()
            elif is_target:
                is_target = False
            elif words or not _ASSIGNMENT.fullmatch(word):
                words.append(word)


def _without_sudo(words: list[str]) -> tuple[str, ...]:
    """What `sudo`, perhaps with `-E` and `-u USER`, and `env NAME=VALUE` run."""
    if words[0] == "sudo":
        words = words[1:]
        while words[0].startswith("-"):
            words = words[2:] if words[0] == "-u" else words[1:]
    if words[0] == "env":
        words = words[1:]
        while _ASSIGNMENT.fullmatch(words[0]):
            words = words[1:]
    return tuple(words)


def parse(arguments: list[str]) -> tuple[list[str], click.Context]:
    """Have click take a command line in, as it would before it runs the command.

    Returns:
        the names of the command (such as ["dead", "list"]), and its context.

    Raises:
        click.UsageError: it does not understand it.
    """
    context = root.make_context("farm", list(arguments))
    names: list[str] = []
    while isinstance(context.command, click.Group) and (rest := _rest(context)):
        name, found, following = context.command.resolve_command(context, rest)
        assert found is not None
        names.append(name or "")
        context = found.make_context(name, following, parent=context)
    return names, context


def _rest(context: click.Context) -> list[str]:
    return [*context._protected_args, *context.args]


def command_tree() -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    """Every command that a help shows: its names, itself, its context."""
    yield from _below((), root, click.Context(root, info_name="farm"))


def _below(
    names: tuple[str, ...], command: click.Command, context: click.Context
) -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    yield names, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            if not found.hidden:
                inner = click.Context(found, info_name=name, parent=context)
                yield from _below((*names, name), found, inner)
