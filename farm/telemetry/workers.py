"""Draws the list of workers, all that is known of each, for `farm workers`."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from farm.printable import printable_data
from farm.telemetry.view import WORKER_STYLES, duration, size


def table(rows: list[dict[str, Any]]) -> Table:
    """The rows of `farm.broker.snapshot.workers`; names from elsewhere are never markup."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("worker", "state", "host", "key", "model", "hash"):
        made.add_column(
            heading, no_wrap=heading in ("worker", "state", "hash"), overflow="ellipsis"
        )
    for heading in ("done", "per s", "memory", "up", "silent"):
        made.add_column(heading, justify="right", no_wrap=True)
    for row in printable_data(rows):
        made.add_row(
            Text(row["name"]),
            Text(row["state"], style=WORKER_STYLES.get(row["state"], "")),
            Text(row["host"]),
            Text(row["key"] or "-"),
            Text(row["model_version"] or "-"),
            Text(row["model_hash"][:8] or "-"),
            str(row["jobs_done"]),
            f"{row['rate_hz']:.1f}",
            size(row["rss_bytes"]),
            duration(row["up_s"]),
            f"{row['silent_s']:.1f} s",
        )
    return made
