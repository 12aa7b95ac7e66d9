"""Failpoints: named moments at which a test has the process killed, as by kill -9.

Armed by the environment, ``FARM_FAILPOINT=recorded:0.3``: where an answer was recorded and not yet
published, 0.3 seconds after that happened first in this life, so that each gets something done.
Not armed, a failpoint costs the call of a function.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Final

VARIABLE: Final = "FARM_FAILPOINT"

# The life of a message and of its hole in the broker, in order.
RECEIVED: Final = "received"  # taken from MQTT, nothing written
JOURNALED: Final = "journaled"  # on disk, not acknowledged
ACKNOWLEDGED: Final = "acknowledged"
DISPATCHED: Final = "dispatched"  # sent to a worker
DONE: Final = "done"  # the worker's result is here, nothing of it written
RECORDED: Final = "recorded"  # the answer is on disk, not published
PUBLISHED: Final = "published"  # handed to MQTT, not confirmed
NAMES: Final = (RECEIVED, JOURNALED, ACKNOWLEDGED, DISPATCHED, DONE, RECORDED, PUBLISHED)


def _armed(text: str) -> tuple[str, float]:
    name, _, delay = text.partition(":")
    if not name:
        return "", 0.0
    try:
        delay_s = float(delay)
    except ValueError:
        delay_s = -1.0
    if name not in NAMES or delay_s < 0:
        raise ValueError(f"{VARIABLE}={text!r}: must be NAME:SECONDS, with a name of {NAMES}")
    return name, delay_s


_name, _delay_s = _armed(os.environ.get(VARIABLE, ""))
_first_s: float | None = None


def reach(name: str) -> None:
    """The process is at this point now; it does not return where that is its end."""
    global _first_s  # noqa: PLW0603 - one countdown per process
    if name != _name:
        return
    now_s = time.monotonic()
    if _first_s is None:
        _first_s = now_s
    if now_s - _first_s >= _delay_s:
        os.kill(os.getpid(), signal.SIGKILL)
