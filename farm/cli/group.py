"""A command with commands of its own: its list, in whole sentences, and what it suggests."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from collections.abc import Mapping

_SENTENCE = re.compile(r"(.*?[.:])(?:\s|$)", re.DOTALL)


class Group(click.Group):
    """A group whose help gives each command's first sentence whole, and finds near names."""

    def sentences(self, ctx: click.Context) -> Mapping[str, str]:
        """What each command is for, by name, in the order of the help."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        return {name: first_sentence(found.help) for name, found in commands.items() if found}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands; click's own list ends in the middle of a sentence."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.sentences(ctx).items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands that begin like that, then the options, without importing a command."""
        names = [
            CompletionItem(name, help=told)
            for name, told in self.sentences(ctx).items()
            if name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is meant.

        Raises:
            UsageError: there is none of this name; the message has the nearest ones.
        """
        name = args[0]
        known = self.list_commands(ctx)
        if (
            not ctx.resilient_parsing
            and not name.startswith("-")
            and self.get_command(ctx, name) is None
        ):
            near = difflib.get_close_matches(name, known)
            hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else _all(known)
            raise click.UsageError(f"No such command {name!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)


def first_sentence(text: str | None) -> str:
    """Of a help text, on one line."""
    paragraph = (text or "").strip().partition("\n\n")[0]
    found = _SENTENCE.match(paragraph)
    return " ".join((found[1] if found else paragraph).split())


def _all(known: list[str]) -> str:
    return f"There are: {', '.join(known)}"
