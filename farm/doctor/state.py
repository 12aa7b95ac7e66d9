"""The state directory: its place, rights and lock, and the journal in it. Makes nothing."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from farm.control import fetch_stats
from farm.doctor.finding import Finding, fail, ok, warn
from farm.doctor.folder import Risks, risk
from farm.errors import FarmError, JournalError, NoFarmError, StateError
from farm.journal.reader import JournalReader
from farm.journal.store import DATABASE_NAME, DIRECTORY_NAME
from farm.state_dir import endpoints, holder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from farm.doctor.patient import Patient


def examine(patient: Patient) -> Iterator[Finding]:
    """See the module."""
    directory = patient.state_dir
    yield _directory(directory)
    yield _sockets(patient)
    if directory.is_dir():
        yield _lock(patient)
        database = directory / DIRECTORY_NAME / DATABASE_NAME
        # what SQLite makes beside it to read it would be ours, and its farm could not open it
        if database.exists() and database.stat().st_uid == os.geteuid():
            yield _journal(directory)


def nearest(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _directory(path: Path) -> Finding:
    check = "state.directory"
    there = nearest(path)
    if not there.is_dir():
        return fail(check, f"{there} is no directory", "name another with state_dir or --state-dir")
    if not os.access(there, os.W_OK | os.X_OK):
        return fail(
            check,
            f"{there} is not writable for this user",
            f"chown it to the farm's user (we are {os.geteuid()}), or name another with state_dir",
        )
    if there != path:
        return ok(check, f"{path} is not there yet: the first start makes it")
    return _modes(path)


def _modes(path: Path) -> Finding:
    check = "state.directory"
    risks = Risks(
        writers=stat.S_IWOTH,
        written="everyone may write to {}",
        written_cure="",
        entered="others may enter {}, and who may enter may command the farm",
        foreign_cure="run the doctor as the farm's user: "
        "files that root makes there the farm can't open",
    )
    if found := risk(check, path, risks):
        return found
    mode = stat.S_IMODE(path.stat().st_mode)
    return ok(check, f"{path} is ours alone (mode {mode:04o})")


def _sockets(patient: Patient) -> Finding:
    try:
        endpoints(patient.config, patient.state_dir)
    except StateError as error:
        return fail("state.sockets", str(error), "choose a shorter place")
    return ok("state.sockets", "the paths of its sockets are short enough")


def _lock(patient: Patient) -> Finding:
    check = "state.lock"
    try:
        pid = holder(patient.state_dir)
    except NoFarmError:
        return ok(check, "no farm runs here now")
    except StateError as error:
        return fail(check, str(error), "run the doctor as the farm's user")
    try:
        control = endpoints(patient.config, patient.state_dir).control
        state = fetch_stats(control)["state"]
    except FarmError:
        return warn(
            check,
            f"a farm (pid {pid}) holds it and does not answer `farm stats`",
            "wait if it is just starting; else read its log",
        )
    return ok(check, f"a farm runs here (pid {pid}, {state}); the doctor works beside it")


def _journal(directory: Path) -> Finding:
    check = "state.journal"
    try:
        with JournalReader(directory) as journal:
            dead = journal.count_dead_letters()
    except (JournalError, StateError) as error:
        return fail(check, str(error), "run `farm journal check`")
    if dead:
        return warn(
            check, f"{dead} dead letters wait for you", "`farm dead list`, then retry or drop them"
        )
    return ok(check, "the journal can be read, and no dead letters wait")
