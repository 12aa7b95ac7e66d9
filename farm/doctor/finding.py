"""The `Finding`: what one check has found, and the cure where there is something to cure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"  # it works, and will hurt some day
    FAIL = "fail"  # a farm won't start, won't work, or loses data


@dataclass(frozen=True, slots=True)
class Finding:
    """See the module.

    Attributes:
        check: the name of the check: its examination, a dot, what was looked at.
        verdict: how bad it is.
        said: what was found, as a sentence.
        cure: what to do about it; "" where nothing is to be done.
    """

    check: str
    verdict: Verdict
    said: str
    cure: str = ""


def ok(check: str, said: str) -> Finding:
    """Nothing is wrong."""
    return Finding(check, Verdict.OK, said)


def warn(check: str, said: str, cure: str) -> Finding:
    """It works, and will hurt some day."""
    return Finding(check, Verdict.WARN, said, cure)


def fail(check: str, said: str, cure: str) -> Finding:
    """A farm won't start, won't work, or loses data."""
    return Finding(check, Verdict.FAIL, said, cure)
