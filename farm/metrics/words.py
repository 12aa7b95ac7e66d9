"""The `Words`: what strangers wrote, as values of a label: harmless, short, and few.

Each new value of a label is a new series, which Prometheus keeps for weeks. Names of workers may be
made up by who starts them; so only so many are told apart in one life of the broker.
"""

from __future__ import annotations

from typing import Final

from farm.printable import printable

OTHER: Final = "other"
MAX_CHARS: Final = 64


class Words:
    """See the module.

    Args:
        most: values that are told apart; whatever comes after them is "other".
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[tuple[str, ...], tuple[str, ...]] = {}

    def of(self, *texts: str) -> tuple[str, ...]:
        """The values for some texts that belong together."""
        known = self._known.get(texts)
        if known is None:
            if len(self._known) >= self._most:
                return (OTHER,) * len(texts)
            known = tuple(map(_cut, texts))
            self._known[texts] = known
        return known


def _cut(text: str) -> str:
    """As it is shown, escapes included, at most so long."""
    shown = printable(text[: MAX_CHARS + 1])
    return shown if len(shown) <= MAX_CHARS else f"{shown[: MAX_CHARS - 1]}…"
