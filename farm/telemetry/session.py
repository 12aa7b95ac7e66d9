"""The `Session`: what has become of a farm while one looks at it.

A decision without I/O: snapshots and silences go in, the notice to be shown comes out.
"""

from __future__ import annotations

import time
from typing import Any

from farm.telemetry.lines import Line, Span, line
from farm.telemetry.units import duration

TOLD_FOR_S = 30.0  # how long it is said that the broker process is another one

Shot = dict[str, Any]


class Session:
    """See the module. `now_s` is monotonic, `utc_s` for people."""

    def __init__(self) -> None:
        self.shot: Shot | None = None  # the newest one
        self.taken_s = 0.0
        self._silent_since: tuple[float, float] | None = None
        self._began_s: dict[str, float] = {}  # by farm, when its broker process did
        self._restarted_s: float | None = None

    @property
    def is_silent(self) -> bool:
        """Whether nothing answers."""
        return self._silent_since is not None

    def took(self, shot: Shot, now_s: float) -> None:
        """A snapshot came."""
        began_s = {
            place: now_s - each["up_s"] for place, each in _farms(shot).items() if each is not None
        }
        for place, at_s in began_s.items():
            if at_s - self._began_s.get(place, at_s) > 1.0:
                self._restarted_s = now_s
        self._began_s |= began_s
        self.shot, self.taken_s, self._silent_since = shot, now_s, None

    def missed(self, now_s: float, utc_s: float) -> None:
        """Nobody answered."""
        if self._silent_since is None:
            self._silent_since = (now_s, utc_s)

    def notices(self, now_s: float, *, period_s: float) -> list[Line]:
        """What is to be said on top of the picture."""
        if self._silent_since is not None:
            since_s, utc_s = self._silent_since
            at = time.strftime("%H:%M:%S", time.localtime(utc_s))
            return [
                line(
                    Span(
                        f" NO FARM ANSWERS since {at} ({duration(now_s - since_s)}): it was "
                        "stopped, or starts again. ",
                        "bold red reverse",
                    )
                ),
                line(
                    Span(
                        f"Below is how it was. It is asked every {period_s:g} s; this goes on by "
                        "itself.",
                        "red",
                    )
                ),
            ]
        if self._restarted_s is not None and now_s - self._restarted_s < TOLD_FOR_S:
            ago = duration(now_s - self._restarted_s)
            told = f"The broker process was started anew {ago} ago: counts begin there."
            return [line(Span(told, "bold cyan"))]
        return []


def _farms(shot: Shot) -> dict[str, Shot | None]:
    if "farms" in shot:
        return {farm["state_dir"]: farm["snapshot"] for farm in shot["farms"]}
    return {"": shot}
