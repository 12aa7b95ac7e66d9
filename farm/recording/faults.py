"""The `Faults` of a replay: messages twice, out of order, lost or late, at random from a seed.

A decision without I/O: `parse_faults` reads what was asked for, `fate` decides about one message.
What becomes of the decisions is `farm.recording.player`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from farm.recording.moments import duration_s

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

REORDER_SPAN: Final = 10  # messages that a reordered one lets pass at most
DUPLICATE_SPAN: Final = 10  # messages between a message and its copy at most
MAX_DELAY_S: Final = 3600.0
_HOW: Final = (
    "write for instance dup=0.05,reorder,drop=0.01,delay=0.5s: each a probability, delay a duration"
    " (delay=0.5s@0.1 for one message in ten)"
)


@dataclass(frozen=True, slots=True)
class Faults:
    """What is to happen, as probabilities for each message.

    Attributes:
        duplicate: it is sent a second time, a few messages later.
        reorder: it lets up to `REORDER_SPAN` messages pass.
        drop: it is not sent at all, nor its copy.
        delay: it is held back for up to `delay_s`, evenly spread.
        delay_s: at most, in real time, at any speed.
    """

    duplicate: float = 0.0
    reorder: float = 0.0
    drop: float = 0.0
    delay: float = 0.0
    delay_s: float = 1.0

    def __bool__(self) -> bool:
        return any((self.duplicate, self.reorder, self.drop, self.delay))


class Fate(NamedTuple):
    """What happens to one message."""

    is_dropped: bool = False
    pass_count: int = 0  # messages that go before it
    copy_after: int | None = None  # messages between it and its copy; None: no copy
    delay_s: float = 0.0
    copy_delay_s: float = 0.0


def fate(faults: Faults, rng: Random) -> Fate:
    """The fate of the next message. Draws the same number of random numbers whatever it is."""
    drop, reorder, duplicate, delay, copy_delay = (rng.random() for _ in range(5))
    passes = rng.randint(1, REORDER_SPAN)
    copy_after = rng.randint(0, DUPLICATE_SPAN)
    spread, copy_spread = rng.random(), rng.random()
    if drop < faults.drop:
        return Fate(is_dropped=True)
    return Fate(
        pass_count=passes if reorder < faults.reorder else 0,
        copy_after=copy_after if duplicate < faults.duplicate else None,
        delay_s=spread * faults.delay_s if delay < faults.delay else 0.0,
        copy_delay_s=copy_spread * faults.delay_s if copy_delay < faults.delay else 0.0,
    )


def parse_faults(text: str) -> Faults:
    """Faults as typed: names with values, by commas.

    Raises:
        ValueError: it can't be read; the sentence says what, and how to write it.
    """
    found = Faults()
    for word in filter(None, (word.strip() for word in text.split(","))):
        name, has_value, value = word.partition("=")
        parse = _PARSERS.get(name.strip())
        if parse is None:
            raise ValueError(f"{name.strip()!r} is no fault ({', '.join(_PARSERS)}): {_HOW}")
        found = replace(found, **parse(value.strip() if has_value else None))
    return found


def _probability(field: str, default: float) -> Callable[[str | None], dict[str, Any]]:
    def parse(value: str | None) -> dict[str, Any]:
        return {field: default if value is None else _share(value)}

    return parse


def _share(value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"{value!r} is no probability from 0 to 1: {_HOW}")
    return share


def _delay(value: str | None) -> dict[str, Any]:
    if value is None:
        return {"delay": 1.0}
    length, has_share, share = value.partition("@")
    delay_s = duration_s(length)
    if delay_s > MAX_DELAY_S:
        raise ValueError(f"a delay of {length} is longer than {MAX_DELAY_S:g} s")
    return {"delay": _share(share) if has_share else 1.0, "delay_s": delay_s}


_PARSERS: Final[dict[str, Callable[[str | None], dict[str, Any]]]] = {
    "dup": _probability("duplicate", 0.05),
    "reorder": _probability("reorder", 0.1),
    "drop": _probability("drop", 0.01),
    "delay": _delay,
}
