"""How far a `farm record` is, on stderr. Not a command of its own."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

import click

from farm.printable import printable

if TYPE_CHECKING:
    from farm.recording.recorder import Recorder

LINE_EVERY_S = 5.0
LOOK_EVERY_S = 0.2


class Progress:
    """How far it is: one line that is renewed on a terminal, now and then a line elsewhere."""

    def __init__(self, recorder: Recorder, where: str = "") -> None:
        self._recorder = recorder
        self._where = where  # the MQTT broker; "" for what is not listened to
        self._is_up = False
        self._is_terminal = sys.stderr.isatty()
        self._begin_s = time.monotonic()
        self._told_s = self._begin_s
        self._last = (self._begin_s, 0)
        self._problem = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_terminal:
            click.echo("\r\x1b[K", nl=False, err=True)

    def look(self, problem: str) -> None:
        """Call often; says something when it is time to."""
        now_s = time.monotonic()
        if problem and problem != self._problem:
            words = f"waiting for the MQTT broker {self._where}: {printable(problem)}"
            self._say(words, is_lasting=True)
        elif self._where and not problem and not self._is_up:
            self._say(f"listening at {self._where}; Ctrl-C ends it", is_lasting=True)
        self._problem, self._is_up = problem, not problem
        every_s = LOOK_EVERY_S if self._is_terminal else LINE_EVERY_S
        if now_s - self._told_s >= every_s:
            self._told_s = now_s
            self._say(self._words(now_s))

    def tell_waiting(self) -> None:
        """Say what is still waited for."""
        count = len(self._recorder.unanswered)
        words = f"waiting for the answers to the last {count} holes; Ctrl-C ends that, too"
        self._say(words, is_lasting=True)

    def _words(self, now_s: float) -> str:
        tally = self._recorder.tally
        messages = tally.messages + tally.answers
        last_s, last_messages = self._last
        rate_hz = (messages - last_messages) / max(now_s - last_s, 1e-6)
        if now_s - last_s > 1:
            self._last = (now_s, messages)
        gaps = f", {tally.gaps} gaps" if tally.gaps else ""
        return (
            f"{messages} messages ({rate_hz:.0f}/s), {tally.holes} holes, "
            f"{tally.payload_bytes / 1e6:.1f} MB as {self._recorder.writer.size / 1e6:.1f} MB{gaps}"
        )

    def _say(self, words: str, *, is_lasting: bool = False) -> None:
        if self._is_terminal:
            click.echo(f"\r\x1b[K{words}", nl=is_lasting, err=True)
        else:
            click.echo(words, err=True)
