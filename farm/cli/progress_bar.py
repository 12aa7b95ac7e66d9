"""The `ProgressBar`: a bar on a terminal, a line now and then elsewhere. Not a command."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_EVERY_S = 5.0


class ProgressBar:
    """See the module; a context manager.

    Args:
        title: what is counted.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._told_s = time.monotonic()
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._progress = _progress(self._title)
            self._progress.add_task("", total=None)
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(self, done: int, total: int) -> None:
        """So many of so many."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=done, total=total)
        elif time.monotonic() - self._told_s >= LINE_EVERY_S:
            self._told_s = time.monotonic()
            click.echo(f"{self._title}: {done} of {total}", err=True)

    def say(self, words: str) -> None:
        """A line of its own, above the bar."""
        if self._progress is not None:
            self._progress.console.print(words, markup=False, highlight=False)
        else:
            click.echo(words, err=True)


def _progress(title: str) -> Progress:
    from rich.console import Console  # noqa: PLC0415 - 0.1 s, which nobody who pipes need pay
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
