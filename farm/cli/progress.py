"""Progress of long work: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress

_LINE_EVERY_S = 30.0
_WIDE = 140  # columns from which a loss is shown with its parts


@contextmanager
def training_progress(holes: int) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Shows how far a training run is, and its losses; yields what is to be called after a step."""
    if not sys.stderr.isatty():
        yield _Lines(holes).step
        return
    bar = _bar("{task.fields[told]}")
    with bar:
        task = bar.add_task("training", total=holes, told="")
        parts = bar.console.width >= _WIDE

        def step(done: int, losses: dict[str, float]) -> None:
            bar.update(task, completed=done, told=_told(losses, parts=parts))

        yield step


@contextmanager
def counting_progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows how much of a count is done; yields what is to be called with what was just done."""
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    bar = _bar("")
    with bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, advance=done)


def _bar(tail: str) -> Progress:
    from rich.console import Console  # noqa: PLC0415 - 0.1 s, which --help need not pay
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn(tail),
    )
    return Progress(*columns, console=Console(stderr=True))


class _Lines:
    """Progress where nobody watches: one line every half minute."""

    def __init__(self, holes: int) -> None:
        self._holes = holes
        self._started_s = self._told_s = time.monotonic()
        self._first = 0

    def step(self, done: int, losses: dict[str, float]) -> None:
        """After each step."""
        now_s = time.monotonic()
        self._first = self._first or done
        if now_s - self._told_s < _LINE_EVERY_S and done < self._holes:
            return
        self._told_s = now_s
        rate = (done - self._first) / max(now_s - self._started_s, 1e-6)
        click.echo(
            f"{done / self._holes:4.0%}  {done} holes  {rate:.0f}/s  {_told(losses)}", err=True
        )


def _told(losses: dict[str, float], *, parts: bool = True) -> str:
    told = f"loss {sum(losses.values()):.3f}"
    if not parts:
        return told
    return f"{told}  " + " ".join(f"{name} {value:.3f}" for name, value in losses.items())
