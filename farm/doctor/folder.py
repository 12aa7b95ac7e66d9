"""Whether a folder of the farm is its user's alone."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from farm.doctor.finding import Finding, fail, warn

if TYPE_CHECKING:
    from pathlib import Path

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class Risks(NamedTuple):
    """What each right of others means for a folder. In all of them {} stands for it.

    Attributes:
        writers: the bits of its mode that nobody else may have for anything.
        written: what is said where one is set.
        written_cure: what is to be done then, behind ``chmod 700``.
        entered: what is said where others have any other right.
        foreign_cure: what is to be done where it is another user's.
    """

    writers: int
    written: str
    written_cure: str
    entered: str
    foreign_cure: str


def risk(check: str, folder: Path, risks: Risks) -> Finding | None:
    """The worst that can be said of a folder's rights and owner; None: it is ours alone.

    Raises:
        OSError: it is not there, or can't be looked at.
    """
    found = folder.stat()
    mode = stat.S_IMODE(found.st_mode)
    named, cure = f"{folder} (mode {mode:04o})", f"chmod 700 {folder}"
    if mode & risks.writers:
        return fail(check, risks.written.format(named), cure + risks.written_cure)
    if mode & _OTHERS:
        return warn(check, risks.entered.format(named), cure)
    if found.st_uid != os.geteuid():
        said = f"{folder} belongs to user {found.st_uid}, and we are {os.geteuid()}"
        return warn(check, said, risks.foreign_cure)
    return None
