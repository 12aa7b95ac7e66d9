"""Records as rows: many at once leave the very same journal as one at a time."""

from __future__ import annotations

import sqlite3

import pytest

from farm.adapter import Publication
from farm.journal import records as r
from farm.journal import rows
from farm.journal.schema import prepare

TABLES = ("message", "hole", "rejection", "meta")


def opened(hole_id: int) -> r.Opened:
    return r.Opened(hole_id, "box/tool", str(hole_id), {"result": 1}, 1.0, 1.0, 2.0)


def answered(hole_id: int) -> r.Answered:
    return r.Answered(
        *(hole_id, 3.0, "published", "ok", "", {"keypoints_mm": [1.0, 2.0]}, {"MachineId": "m"}),
        *("v", "h", (Publication("t", b"x"),), [[1.0, 0, []]]),
    )


def history() -> list[r.Record]:
    """All kinds, with more of some than a statement takes, and some holes changed twice."""
    made: list[r.Record] = [opened(n) for n in range(100)]
    made += [r.Hurt(n, 1, ["one"]) for n in range(0, 100, 3)]
    made += [r.Hurt(n, 2, ["two"]) for n in range(0, 100, 9)]
    made += [answered(n) for n in range(90)]
    made += [r.Ended(n, 4.0, "published", "refused" if n % 2 else "") for n in range(77)]
    made += [r.Resolved(n, "dropped") for n in range(5)]
    made += [r.Rejected(n, n, 1.0, "box/tool", "trace", "why", ()) for n in range(200, 241)]
    made += [r.RejectionEnded(n, 2.0) for n in range(200, 233)]
    made += [r.Watermark(n) for n in (5, 9)]
    return made


def written(records: list[r.Record], *, at_once: bool) -> dict[str, list[tuple[object, ...]]]:
    connection = sqlite3.connect(":memory:")
    prepare(connection)
    connection.execute("DELETE FROM meta WHERE key IN ('life', 'journal')")  # drawn anew each time
    by_statement: dict[rows.Statement, list[rows.Row]] = {}
    for record in records:
        statement, row = rows.row_of(record)
        if at_once:
            by_statement.setdefault(statement, []).append(row)
        else:
            connection.execute(statement.sql(1), row)
    for statement in rows.ORDER:
        for sql, values in statement.calls(by_statement.get(statement, ())):
            connection.execute(sql, values)
    found = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}
    connection.close()
    return found


@pytest.mark.parametrize("count", [1, 7, 8, 31, 32, 33, 41, 10_000])
def test_many_rows_at_once_are_the_same_as_one_by_one(count: int) -> None:
    """A row left out at the edge of a statement, or a column in another one's place."""
    some = history()[:count]
    assert written(some, at_once=True) == written(some, at_once=False)


def test_of_two_changes_of_one_hole_the_later_counts() -> None:
    """UPDATE … FROM takes any of them: a hole's third death forgotten."""
    changes = [opened(1), r.Hurt(1, 1, ["a"]), r.Hurt(1, 2, ["b"]), r.Hurt(1, 3, ["c"])]
    connection = sqlite3.connect(":memory:")
    prepare(connection)
    for statement in rows.ORDER:
        given = [row for kind, row in map(rows.row_of, changes) if kind == statement]
        for sql, values in statement.calls(given):
            connection.execute(sql, values)
    assert connection.execute("SELECT deaths, story FROM hole").fetchall() == [
        (3, rows.pack(["c"]))
    ]
    connection.close()


def test_a_commit_makes_few_calls() -> None:
    """A call for each row: each waits for the interpreter's lock while the loop is busy."""
    given = [rows.row_of(answered(n))[1] for n in range(500)]
    statement = rows.row_of(answered(1))[0]
    assert len(list(statement.calls(given))) <= 500 // 32 + 2 + 8


def test_a_change_finds_its_row_by_its_id() -> None:
    """A scan of a day's holes for each of them."""
    connection = sqlite3.connect(":memory:")
    prepare(connection)
    for statement in rows.ORDER:
        if not statement.is_update:
            continue
        plan = connection.execute(
            f"EXPLAIN QUERY PLAN {statement.sql(3)}", [None] * 3 * statement.columns
        ).fetchall()
        told = " ".join(step[-1] for step in plan)
        assert "USING INTEGER PRIMARY KEY" in told, told
        assert "SCAN hole" not in told
    connection.close()
