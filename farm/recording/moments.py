"""Moments and durations as people type them: `2026-03-01T08:00`, `2h` (ago), `10m`, `0.5s`."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Final

NS_PER_S: Final = 1_000_000_000
MAX_DURATION_S: Final = 10 * 366 * 86_400.0

_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s?(ms|s|m|h|d)?")
_SECONDS: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "": 1.0}


def duration_s(text: str) -> float:
    """A duration in seconds.

    Raises:
        ValueError: it is none; the sentence says how one looks.
    """
    found = _DURATION.fullmatch(text.strip())
    seconds = float(found[1]) * _SECONDS[found[2] or ""] if found else math.nan
    if not 0 <= seconds <= MAX_DURATION_S:
        raise ValueError(f"{text!r} is no duration: write 500ms, 30s, 10m, 2h or 1d")
    return seconds


def moment_ns(text: str, *, now_ns: int) -> int:
    """A moment, UTC in nanoseconds since 1970. Without a zone it is meant in that of this machine.

    Args:
        text: ISO 8601, or a duration: so long ago.
        now_ns: what it is counted from.

    Raises:
        ValueError: it is none; the sentence says how one looks.
    """
    found = _DURATION.fullmatch(text.strip())
    if found and found[2]:  # 20260301 is a day, and 2026 no number of seconds
        return max(0, now_ns - round(duration_s(text) * NS_PER_S))
    try:
        moment = datetime.fromisoformat(text.strip())
        return max(0, round(moment.timestamp() * NS_PER_S))
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            f"{text!r} is no moment: write 2026-03-01T08:00, 2026-03-01T08:00Z, or 2h for two hours"
            " ago"
        ) from None


def told_moment(at_ns: int) -> str:
    """A moment for people: UTC to the second."""
    try:
        moment = datetime.fromtimestamp(at_ns // NS_PER_S, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{at_ns} ns since 1970"
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def told_duration(seconds: float) -> str:
    """A duration for people."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, whole_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole_s} s"
