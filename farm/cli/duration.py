"""A duration on the command line: 90, 90s, 10m, 2h or 1d, in seconds."""

from __future__ import annotations

import re
from typing import Any, Final

import click

_FORM = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)")
_SECONDS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class Duration(click.ParamType[float]):
    """Seconds; with a letter behind it minutes, hours or days.

    Args:
        most_s: the longest that may be given.
    """

    name = "duration"

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The seconds that were written."""
        found = _FORM.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is no duration: 90s, 10m, 2h or 1d", param, ctx)
        seconds = float(found[1]) * _SECONDS[found[2]]
        if not 0 < seconds <= self._most_s:
            self.fail(f"{value} must be more than 0 s and at most {told(self._most_s)}", param, ctx)
        return seconds


def told(seconds: float) -> str:
    """A duration as people write it: 1 d, 1 h 30 min, 9 min 58 s."""
    parts = []
    left = round(seconds)
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
