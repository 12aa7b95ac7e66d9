"""The journal's tables, their version, and the way from an older one.

Payloads are not in them: they lie in segment files (`farm.journal.segments`), and a message's row
says where.
"""

from __future__ import annotations

import secrets
import sqlite3
from typing import TYPE_CHECKING, Final

from farm.errors import JournalError
from farm.journal.ids import FIRST_LIFE_BITS

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = 1

# A hole that waits for an operator's decision, as the index hole_dead has it; told by MQTT.
DEAD_LETTER: Final = "terminal IN ('dead', 'shed') AND resolved IS NULL AND state = 2"
COUNT_DEAD_LETTERS: Final = f"SELECT count(*) FROM hole WHERE {DEAD_LETTER}"  # noqa: S608 - ours

# `state` is a HoleState. The partial indexes hold the open rows alone, so they stay small and a
# start finds what is open at once, however much history there is.
_TABLES: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE message (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL,
    part_id TEXT, topic TEXT NOT NULL, segment INTEGER NOT NULL, position INTEGER NOT NULL,
    length INTEGER NOT NULL, crc INTEGER NOT NULL, note TEXT NOT NULL
);
CREATE INDEX message_segment ON message (segment);
CREATE TABLE hole (
    id INTEGER PRIMARY KEY, source TEXT NOT NULL, part_id TEXT NOT NULL, parts BLOB NOT NULL,
    newest_message INTEGER NOT NULL, at REAL NOT NULL, first REAL NOT NULL, last REAL NOT NULL,
    deaths INTEGER NOT NULL DEFAULT 0, state INTEGER NOT NULL DEFAULT 0, terminal TEXT,
    status TEXT, reason TEXT, value BLOB, provenance BLOB, model_version TEXT, model_hash TEXT,
    publications BLOB, answered REAL, ended REAL, refusals TEXT, story BLOB, retry_of INTEGER,
    resolved TEXT
);
CREATE INDEX hole_key ON hole (part_id, source);
CREATE INDEX hole_open ON hole (id) WHERE state < 2;
CREATE INDEX hole_dead ON hole (id) WHERE terminal IN ('dead', 'shed') AND resolved IS NULL;
CREATE TABLE rejection (
    id INTEGER PRIMARY KEY, message INTEGER NOT NULL, at REAL NOT NULL, source TEXT NOT NULL,
    kind TEXT NOT NULL, reason TEXT NOT NULL, publications BLOB NOT NULL,
    state INTEGER NOT NULL DEFAULT 1, ended REAL
);
CREATE INDEX rejection_open ON rejection (id) WHERE state < 2;
"""

# From each version to the next, as SQL. A journal of a version that is not known is refused.
MIGRATIONS: Final[Mapping[int, str]] = {}


def prepare(
    connection: sqlite3.Connection,
    *,
    version: int = VERSION,
    migrations: Mapping[int, str] = MIGRATIONS,
) -> None:
    """Make the tables, or bring those of an older version up to date.

    Raises:
        JournalError: the journal is of a version that this farm does not know.
    """
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found == 0:
        life = secrets.randbits(FIRST_LIFE_BITS)
        # the second tells this journal from any other, also from one in the same place
        first = f"('life', {life}), ('journal', '{secrets.token_hex(8)}')"
        _run(connection, f"{_TABLES} INSERT INTO meta VALUES {first}", version)  # noqa: S608 - ours
        return
    while found != version:
        step = migrations.get(found)
        if step is None:
            raise JournalError(
                f"the journal is of version {found}, and this farm knows {version}: start the farm "
                "that wrote it, or move the folder journal/ out of the state directory"
            )
        found += 1
        _run(connection, step, found)


def _run(connection: sqlite3.Connection, script: str, version: int) -> None:
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {version}; COMMIT;"
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
