"""Runs the examinations one after the other. None can hang it, and none can break it.

Each runs on a thread of its own with a deadline: a disk or a name server that does not answer holds
up that one alone.
"""

from __future__ import annotations

import importlib
import queue
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from farm.doctor.finding import Finding, fail
from farm.errors import FarmError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from farm.doctor.patient import Patient

EXAMINATIONS: Final = {
    "configuration": 20.0,
    "state": 20.0,
    "disk": 30.0,
    "machine": 10.0,
    "gpus": 20.0,
    "doors": 20.0,
    "model": 120.0,
    "mqtt": 180.0,
}
"""Each is a module here, with the seconds that it may take: many times what it needs where all is
well, since a slow one tells more than one that was given up."""


def examine(
    patient: Patient, names: Iterable[str], on_begin: Callable[[str], None]
) -> Iterator[Finding]:
    """The findings of some examinations, as they are made.

    Args:
        patient: who is looked at.
        names: of EXAMINATIONS.
        on_begin: called with each name before that examination begins.
    """
    for name in names:
        on_begin(name)
        module = importlib.import_module(f"farm.doctor.{name}")
        yield from bounded(name, partial(module.examine, patient), EXAMINATIONS[name])


def bounded(
    name: str, findings: Callable[[], Iterator[Finding]], timeout_s: float
) -> Iterator[Finding]:
    """The findings of one examination, and one more if it breaks or does not end in time."""
    made: queue.Queue[Finding | None] = queue.Queue()

    def run() -> None:
        try:
            for finding in findings():
                made.put(finding)
        except FarmError as error:
            made.put(fail(f"{name}.error", str(error), "do as it says, then look again"))
        # a model or an adapter of the user's may raise anything, and the others are to be seen
        except Exception as error:  # noqa: BLE001
            made.put(
                fail(
                    f"{name}.error",
                    f"the examination broke: {type(error).__name__}: {error}",
                    "if the cause is not in a class of your own, report it",
                )
            )
        finally:
            made.put(None)

    threading.Thread(target=run, name=f"doctor-{name}", daemon=True).start()
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            finding = made.get(timeout=max(deadline_s - time.monotonic(), 0))
        except queue.Empty:
            yield fail(
                f"{name}.timeout",
                f"it did not end in {timeout_s:g} s, and was left alone",
                "look at what it would have looked at next: something there does not answer",
            )
            return
        if finding is None:
            return
        yield finding
