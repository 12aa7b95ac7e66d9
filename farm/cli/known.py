"""What completion offers for the arguments of a command: the names that are known at the time.

A completion must neither fail nor make anybody wait: what can't be found out at once is left out.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from typing import TYPE_CHECKING, Any

from click.shell_completion import CompletionItem

from farm.errors import FarmError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import click

    Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

TIMEOUT_S = 0.5  # for a farm that runs: it answers in milliseconds
_NEWEST = 500  # holes that are looked at for tools and results
_MOST = 50  # names offered; nobody reads more
# A name may be a stranger's, and ends on a command line: what a shell would take for more than a
# word is not offered.
_SAFE = re.compile(r"[\w.@:+/][\w.@:+/-]*")


def _known(find: Callable[[click.Context], Iterable[str]]) -> Completer:
    """Offer what `find` knows, and nothing where it can't know."""

    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found: list[str] = []
        with contextlib.suppress(FarmError, OSError, sqlite3.Error):
            found = [name for name in find(ctx) if name.startswith(incomplete)]
        found = [name for name in found if _SAFE.fullmatch(name)]
        return [CompletionItem(name) for name in dict.fromkeys(found)][:_MOST]

    return complete


def folders(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer folders; the shell knows them."""
    return [CompletionItem(incomplete, type="dir")]


def _place(ctx: click.Context) -> tuple[Path, str]:
    from farm.cli.operator import place  # noqa: PLC0415 - not for --help

    return place(_given(ctx, "config_path"), _given(ctx, "state_dir"))


def _given(ctx: click.Context, name: str) -> Any:
    """An option, of this command or of the group it is in."""
    around: click.Context | None = ctx
    while around is not None:
        if (value := around.params.get(name)) is not None:
            return value
        around = around.parent
    return None


def _workers(ctx: click.Context) -> Iterable[str]:
    from farm.control import fetch_stats  # noqa: PLC0415 - not for --help

    shot = fetch_stats(_place(ctx)[1], timeout_s=TIMEOUT_S)
    return sorted(str(worker["name"]) for worker in shot["workers"])


def _parts(_: click.Context) -> Iterable[str]:
    return ("all", "broker", "supervisor", "fleet", "workers")


def _keys(ctx: click.Context) -> Iterable[str]:
    from farm.doors.keyring import Keyring  # noqa: PLC0415 - not for --help

    return [key.name for key in Keyring(_place(ctx)[0]).workers()]


def _models(ctx: click.Context) -> Iterable[str]:
    from farm.models.registry import model_folders  # noqa: PLC0415 - not for --help

    return [str(number) for number in model_folders(_given(ctx, "models_dir"))]


def _model_names(ctx: click.Context) -> Iterable[str]:
    return [*_models(ctx), "rule"]


def _tools(ctx: click.Context) -> Iterator[str]:
    from farm.journal.reader import JournalReader  # noqa: PLC0415 - not for --help

    with JournalReader(_place(ctx)[0]) as journal:
        yield from sorted({hole.source for hole in journal.newest(_NEWEST)})


def _results(ctx: click.Context) -> Iterator[str]:
    from farm.journal.reader import JournalReader  # noqa: PLC0415 - not for --help

    tool = str(ctx.params.get("tool") or "")
    with JournalReader(_place(ctx)[0]) as journal:
        for hole in journal.newest(_NEWEST):
            if hole.source == tool or hole.source.endswith(f"/{tool}"):
                yield hole.part_id


def _letters(ctx: click.Context) -> Iterator[str]:
    from farm.journal.ids import told  # noqa: PLC0415 - not for --help
    from farm.journal.reader import JournalReader  # noqa: PLC0415

    with JournalReader(_place(ctx)[0]) as journal:
        for letter in journal.dead_letters(limit=_MOST):
            yield told(letter.hole_id)


workers = _known(_workers)
parts = _known(_parts)
keys = _known(_keys)
models = _known(_models)
model_names = _known(_model_names)
tools = _known(_tools)
results = _known(_results)
letters = _known(_letters)
