"""Draws the list of workers, all that is known of each, for `farm workers`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from farm.printable import printable_data
from farm.telemetry.rows import STATE_STYLES
from farm.telemetry.units import duration, size

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDE_COLUMNS = 110  # from here on there is room for memory and time, too
NARROW_CHARS, WIDE_CHARS = 11, 24  # of a name; what is longer is cut
NARROWER_CHARS = 9  # where there is a column of devices, too


def table(rows: list[dict[str, Any]], width: int) -> Table:
    """The rows of `farm.broker.snapshot.workers`; names from elsewhere are never markup."""
    is_wide = width >= WIDE_COLUMNS
    has_device = any(row.get("device") for row in rows)
    most = WIDE_CHARS if is_wide else NARROWER_CHARS if has_device else NARROW_CHARS
    made = Table(box=None, pad_edge=False, header_style="bold")
    first = ("worker", "state", *(("device",) if has_device else ()))
    for heading in (*first, "host", "key", "model", "hash"):
        made.add_column(heading, no_wrap=True)
    for heading in ("done", "per s", "last", *(("memory", "up") if is_wide else ())):
        made.add_column(heading, justify="right", no_wrap=True)
    for row in printable_data(rows):
        cells: list[RenderableType] = [
            cut(row["name"], most),
            Text(row["state"], style=STATE_STYLES.get(row["state"], "")),
            *((cut(row.get("device") or "-", most),) if has_device else ()),
            cut(row["host"], most),
            cut(row["key"] or "-", most),
            cut(row["model_version"] or "-", most),
            Text(row["model_hash"][: 8 if is_wide else 4] or "-"),
            str(row["jobs_done"]),
            f"{row['rate_hz']:.1f}",
            f"{row['silent_s']:.1f} s",
        ]
        if is_wide:
            cells += [size(row["rss_bytes"]), duration(row["up_s"])]
        made.add_row(*cells)
    return made


def cut(text: str, limit: int) -> Text:
    """A text of at most so many characters; what looks like markup in it is none."""
    return Text(text if len(text) <= limit else f"{text[: limit - 1]}…")
