"""Numbers for people: each in as many characters as its column has, whatever it is.

So no column of a table that is drawn once a second jumps.
"""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A duration for people: 8 s, 3 min 20 s, 2 h 5 min, 4 d 3 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for small, big, step in (("s", "min", 60), ("min", "h", 3600), ("h", "d", 86_400)):
        if whole < step * (60 if big == "min" else 24) or big == "d":
            rest = whole % step // {"s": 1, "min": 60, "h": 3600}[small]
            return f"{whole // step} {big}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def age(seconds: float | None) -> str:
    """A duration in one unit, at most six characters; "-" for none."""
    if seconds is None:
        return "-"
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    for step, unit, most in ((1, "s", 119.5), (60, "min", 99.5), (3600, "h", 47.5)):
        if seconds < step * most:
            digits = 1 if unit == "h" and seconds < 9.95 * step else 0
            return f"{seconds / step:.{digits}f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def latency(seconds: float | None) -> str:
    """How long something took, at most six characters: 0.42 ms, 83 ms, 1.2 s; "-" for none."""
    if seconds is None:
        return "-"
    ms = seconds * 1000
    if ms >= 999.5:
        return age(seconds)
    return f"{ms:.0f} ms" if ms >= 9.95 else f"{ms:.1f} ms"


def size(count: float) -> str:
    """Bytes for people, in powers of ten."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def milliseconds(seconds: float | None) -> str:
    """Three significant digits."""
    if seconds is None:
        return "-"
    ms = seconds * 1000
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"


def rate(per_s: float) -> str:
    """A number a second, at most five characters."""
    if per_s < 999.95:
        return f"{per_s:.1f}"
    return f"{per_s:.0f}" if per_s < 99_999.5 else f"{per_s / 1000:.0f}k"


def number(count: int) -> str:
    """A count, at most seven characters."""
    if count < 10_000_000:
        return f"{count}"
    for step, unit in ((1e6, "M"), (1e9, "G")):
        if count < 9999.5 * step:
            return f"{count / step:.1f}{unit}"
    return f"{count / 1e12:.3g}T"


def many(count: int, one: str, more: str = "") -> str:
    """A count with its noun: 1 hole, 2 holes."""
    return f"{count} {one if count == 1 else more or one + 's'}"
