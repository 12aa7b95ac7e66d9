"""How `farm replay FILE` tells what came of it. Not a command of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from farm.printable import printable

if TYPE_CHECKING:
    from farm.recording.expected import Comparison
    from farm.recording.replayer import Replayer

DIFFERENCES_SHOWN = 50


def show_comparison(comparison: Comparison, tolerance_mm: float) -> None:
    """Print what is as expected, and what is not."""
    counts = comparison.counts()
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    not_sent = f", {comparison.not_sent} not sent" if comparison.not_sent else ""
    click.echo(
        f"{comparison.same} answers as expected (within {tolerance_mm:g} mm; the largest"
        f" difference is {comparison.largest_mm:.4f} mm){not_sent}"
    )
    if comparison.is_same:
        return
    from rich.console import Console  # noqa: PLC0415 - only where there is something to show
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("", "tool", "id", "expected", "came"):
        table.add_column(name, overflow="fold")
    for each in comparison.differences[:DIFFERENCES_SHOWN]:
        texts = (each.verdict.value, each.tool, each.result_id, each.expected, each.found)
        table.add_row(*(Text(printable(text)) for text in texts))
    Console().print(table)
    if (more := len(comparison.differences) - DIFFERENCES_SHOWN) > 0:
        click.echo(f"and {more} more (--json has all)")
    click.echo(f"NOT as expected: {told}")


def outcome(replayer: Replayer, comparison: Comparison | None) -> dict[str, Any]:
    """The same and what was published, for programs."""
    counts, played = replayer.counts(), replayer.played
    data: dict[str, Any] = {
        "sent": counts.sent,
        "acknowledged": counts.acknowledged,
        "refused_by_mqtt": counts.refused,
        "copies": played.copies,
        "dropped": played.dropped,
        "ids_kept": replayer.renewal.kept,
    }
    if comparison is not None:
        data |= {
            "same": comparison.same,
            "not_sent": comparison.not_sent,
            "largest_mm": comparison.largest_mm,
            **comparison.counts(),
            "differences": [
                each._asdict() | {"verdict": each.verdict.value} for each in comparison.differences
            ],
        }
    return data
