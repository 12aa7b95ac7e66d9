"""The tables that can be sorted and filtered: workers, and tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from farm.telemetry.lines import Column, Glyphs, Line, Span, fitting, line, table
from farm.telemetry.units import age, number, rate, size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STATE_STYLES = {"idle": "green", "busy": "cyan", "loading": "yellow", "draining": "yellow"}
MANY_DEATHS = 1  # a job that has cost a worker already
HASH_CHARS = 8

Row = dict[str, Any]


class Field(NamedTuple):
    """A column, what it shows of a row, and by what it is sorted; None: it is not."""

    column: Column
    show: Callable[[Row], str | Span]
    key: Callable[[Row], Any] | None = None
    is_rising: bool = False  # when it is sorted by, unless reversed
    is_rare: bool = False  # left out where no row has anything to show


def _count(name: str, style: str = "") -> Callable[[Row], str | Span]:
    """A counter; zeros step back."""

    def show(row: Row) -> Span:
        count = row.get(name, 0)
        return Span(number(count), style if count else "dim")

    return show


def _job(row: Row) -> str | Span:
    job = row.get("job")
    if not job:
        return ""
    more = f" +{job['batch'] - 1}" if job["batch"] > 1 else ""
    style = "yellow" if job["deaths"] >= MANY_DEATHS else ""
    return Span(f"{job['source']} {job['id']}{more}", style)


def _natural(row: Row) -> tuple[int, str]:
    name = row.get("name") or row.get("source", "")
    return len(name), name


def _restarts(row: Row) -> str | Span:
    count = row.get("restarts", 0)
    return Span(number(count), "yellow" if count else "dim")


WORKER_FIELDS: tuple[Field, ...] = (
    Field(Column("worker", 8), lambda r: r["name"], _natural, is_rising=True),
    Field(
        Column("state", 8),
        lambda r: Span(r["state"], STATE_STYLES.get(r["state"], "")),
        lambda r: r["state"],
        is_rising=True,
    ),
    Field(Column("device", 8, priority=7), lambda r: r.get("device") or "", is_rare=True),
    Field(Column("for", 6, is_right=True, priority=11), lambda r: "" if r["job_age_s"] is None
          else age(r["job_age_s"]), lambda r: r["job_age_s"] or 0.0),
    Field(Column("job", 10, priority=8, is_flexible=True, keeps_end=True), _job),
    Field(Column("holes/s", 8, is_right=True), lambda r: rate(r["rate_hz"]),
          lambda r: r["rate_hz"]),
    Field(Column("done", 7, is_right=True, priority=12), lambda r: number(r["jobs_done"]),
          lambda r: r["jobs_done"]),
    Field(Column("restarts", 9, is_right=True, priority=10), _restarts,
          lambda r: r.get("restarts", 0)),
    Field(Column("memory", 7, is_right=True, priority=9), lambda r: size(r["rss_bytes"]),
          lambda r: r["rss_bytes"]),
    Field(Column("up", 6, is_right=True, priority=6), lambda r: age(r["up_s"]),
          lambda r: r["up_s"]),
    Field(Column("host", 16, priority=5, style="dim"), lambda r: r["host"], lambda r: r["host"],
          is_rising=True),
    Field(Column("key", 10, priority=1, style="dim"), lambda r: r["key"] or "-"),
    Field(Column("model", 12, priority=3, style="dim"), lambda r: r["model_version"] or "-"),
    Field(Column("hash", HASH_CHARS, priority=4, style="dim"),
          lambda r: r["model_hash"][:HASH_CHARS] or "-"),
    Field(Column("pid", 7, is_right=True, priority=2, style="dim"), lambda r: str(r["pid"])),
)  # fmt: skip

TOOL_FIELDS: tuple[Field, ...] = (
    Field(Column("tool", 14, is_flexible=True, keeps_end=True), lambda r: r["source"],
          lambda r: r["source"],
          is_rising=True),
    Field(Column("bad", 7, is_right=True), _count("troubles", "bold red"),
          lambda r: r["troubles"]),
    Field(Column("msg/s", 6, is_right=True, priority=10), lambda r: rate(r["parts_hz"]),
          lambda r: round(r["parts_hz"], 1)),
    Field(Column("holes", 7, is_right=True, priority=9), lambda r: number(r["holes"]),
          lambda r: r["holes"]),
    Field(Column("dead", 7, is_right=True), _count("dead", "red"), lambda r: r["dead"]),
    Field(Column("unpaired", 9, is_right=True, priority=8), _count("unpaired", "red"),
          lambda r: r["unpaired"]),
    Field(Column("unread", 7, is_right=True, priority=7), _count("rejected", "red"),
          lambda r: r["rejected"]),
    Field(Column("negative", 9, is_right=True, priority=6), _count("negative_depths", "yellow"),
          lambda r: r["negative_depths"]),
    Field(Column("runs", 7, is_right=True, priority=3), _count("negative_runs", "yellow"),
          lambda r: r["negative_runs"]),
    Field(Column("unsure", 7, is_right=True, priority=5), _count("low_quality", "yellow"),
          lambda r: r["low_quality"]),
    Field(Column("quality", 8, is_right=True, priority=4), lambda r: "-"
          if r["quality_mean"] is None else f"{r['quality_mean']:.3f}",
          lambda r: 2.0 if r["quality_mean"] is None else r["quality_mean"], is_rising=True),
    Field(Column("no depth", 9, is_right=True, priority=2), _count("insufficient"),
          lambda r: r["insufficient"]),
    Field(Column("silent", 7, is_right=True, priority=4), lambda r: age(r["silent_s"]),
          lambda r: r["silent_s"] or 0.0),
    Field(Column("last trouble", 20, priority=1, is_flexible=True, style="dim"),
          lambda r: r["reason"]),
)  # fmt: skip

TROUBLES, LOUDEST = 1, 2  # of the tools' fields


def sortable(fields: Sequence[Field], rows: Sequence[Row], width: int) -> list[int]:
    """The numbers of the columns that are seen, and that rows can be sorted by."""
    there = _shown(fields, rows)
    seen = [there[n] for n in fitting([field.column for field in there], width)]
    return [n for n, field in enumerate(fields) if field.key is not None and field in seen]


def _shown(fields: Sequence[Field], rows: Sequence[Row]) -> list[Field]:
    return [each for each in fields if not each.is_rare or any(map(each.show, rows))]


def matching(rows: Sequence[Row], text: str) -> list[Row]:
    """The rows in which a text stands somewhere, in capitals or not."""
    wanted = text.casefold()
    return [row for row in rows if not wanted or wanted in _all_text(row).casefold()]


def nothing_matches(text: str) -> Line:
    """In place of rows that a filter leaves none of."""
    return line(Span(f"nothing matches '{text}' (Esc shows all)", "yellow"))


def _all_text(row: Row) -> str:
    parts = (str(v) if isinstance(v, str) else _all_text(v) for v in row.values()
             if isinstance(v, str | dict))  # fmt: skip
    return " ".join(parts)


def arranged(rows: Sequence[Row], field: Field, *, is_reversed: bool = False) -> list[Row]:
    """Sorted by a field; equal ones by name, so that they don't change places all the time."""
    assert field.key is not None
    by_name = sorted(rows, key=_natural)
    return sorted(by_name, key=field.key, reverse=field.is_rising == is_reversed)


def draw(
    fields: Sequence[Field],
    rows: Sequence[Row],
    width: int,
    glyphs: Glyphs,
    *,
    sorted_by: int | None = None,
    is_reversed: bool = False,
) -> list[Line]:
    """The heading and a line for each row, in the order given."""
    is_rising = sorted_by is not None and fields[sorted_by].is_rising != is_reversed
    by = None if sorted_by is None else fields[sorted_by]
    fields = _shown(fields, rows)
    sorted_by = None if by is None else fields.index(by)
    cells = [[field.show(row) for field in fields] for row in rows]
    columns = [field.column for field in fields]
    return table(columns, cells, width, glyphs, sorted_by=sorted_by, is_rising=is_rising)
