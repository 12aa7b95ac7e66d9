"""Records from MQTT until told to stop: serves a `Subscription` and gives it to a `Recorder`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from farm.recording.effort import Effort

if TYPE_CHECKING:
    from collections.abc import Callable

    from farm.recording.recorder import Recorder
    from farm.recording.subscription import Subscription

POLL_S: Final = 0.2  # how late a stop is noticed at worst
FLUSH_EVERY_S: Final = 1.0  # what a kill -9 may cost
LINGER_S: Final = 1.0  # after the last hole, for messages that are sent behind it
ANSWERS_S: Final = 15.0  # after the last message, for its answer
ENOUGH_STOPS: Final = 2  # from which on not even an answer is waited for


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop by itself; None: never.

    Attributes:
        for_s: after so many seconds.
        holes: once so many are complete.
        until_ns: at this moment (UTC).
    """

    for_s: float | None = None
    holes: int | None = None
    until_ns: int | None = None


def record_mqtt(
    recorder: Recorder,
    subscription: Subscription,
    limits: Limits,
    *,
    stops: Callable[[], int],
    on_progress: Callable[[], None],
    waits_for_answers: bool,
    on_waiting: Callable[[], None] = lambda: None,
) -> str:
    """Record until something ends it; returns what, in a word or two.

    Args:
        recorder: takes what comes.
        subscription: gives it.
        limits: when to end.
        stops: how often we were told to; the second time, the last answers are not waited for.
        on_progress: called often.
        waits_for_answers: that the last holes get theirs, for `ANSWERS_S`.
        on_waiting: called once, when nothing else is wanted any more.

    Raises:
        MqttError: the MQTT broker does not let us in.
        RecordingError: the disk is full or fails.
    """
    watch = _Watch(recorder, subscription, stops, on_progress)
    begin_s = time.monotonic()

    def reason() -> str:
        if limits.for_s is not None and time.monotonic() - begin_s >= limits.for_s:
            return "the time is over"
        if limits.holes is not None and recorder.tally.holes >= limits.holes:
            return "enough holes"
        if limits.until_ns is not None and time.time_ns() >= limits.until_ns:
            return "the time is over"
        return ""

    why = watch.serve(reason)
    if limits.holes is not None and recorder.tally.holes >= limits.holes:
        end_s = time.monotonic() + LINGER_S
        watch.serve(lambda: "enough" if time.monotonic() >= end_s else "")
    if waits_for_answers and recorder.unanswered and stops() < ENOUGH_STOPS:
        on_waiting()
        end_s = time.monotonic() + ANSWERS_S
        watch.serve(
            lambda: "" if recorder.unanswered and time.monotonic() < end_s else "all answered",
            answers_alone=True,
        )
    return why


class _Watch:
    def __init__(
        self,
        recorder: Recorder,
        subscription: Subscription,
        stops: Callable[[], int],
        on_progress: Callable[[], None],
    ) -> None:
        self._recorder = recorder
        self._subscription = subscription
        self._stops = stops
        self._on_progress = on_progress
        self._flushed_s = time.monotonic()
        self._effort = Effort()

    def serve(self, reason: Callable[[], str], *, answers_alone: bool = False) -> str:
        """Take what comes until there is a reason to end, or we are stopped."""
        enough = ENOUGH_STOPS if answers_alone else 1
        while not (why := "stopped" if self._stops() >= enough else reason()):
            begin_s, waited_s = time.monotonic(), self._subscription.waited_s
            for record in self._subscription.poll(POLL_S):
                self._recorder.take(record, is_late=answers_alone)
            if begin_s - self._flushed_s >= FLUSH_EVERY_S:
                self._flushed_s = begin_s
                self._recorder.writer.flush()
            self._on_progress()
            waited_s = self._subscription.waited_s - waited_s
            self._effort.note(busy_s=time.monotonic() - begin_s - waited_s, waited_s=waited_s)
            self._recorder.writer.level = self._effort.level
        return why
