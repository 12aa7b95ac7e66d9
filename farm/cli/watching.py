"""Watching a farm on a terminal: the shell around the picture, the keyboard and the farm.

Owns the loop, its signals and the thread that asks. What is drawn is the picture's, what keys do
the keyboard's, what is said of a silent farm the session's.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from farm.cli.terminal import Terminal, TerminalGoneError
from farm.errors import NoFarmError
from farm.printable import printable_data
from farm.telemetry.keyboard import Decoder, Looking, press
from farm.telemetry.lines import ASCII, UNICODE, Glyphs, padded
from farm.telemetry.paint import paint
from farm.telemetry.session import Session
from farm.telemetry.view import screen, time_of_day

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ESCAPE_S = 0.05  # after which a lone escape is the key itself, and no sequence
TICK_S = 1.0  # the clock in the corner, and how long nobody answers
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
TOLD = (*STOPPING, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)

Shot = dict[str, Any]


class Asker:
    """Asks the farm on a thread of its own: a silent one must not hold up the keyboard."""

    def __init__(
        self, fetch: Callable[[], Shot], period_s: float, wake: Callable[[], None]
    ) -> None:
        self._fetch = fetch
        self.period_s = period_s
        self._wake = wake
        self._again = threading.Event()
        self._is_over = False
        self.answers: queue.SimpleQueue[Shot | Exception] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="asker", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; what is under way is not waited for."""
        self._is_over = True
        self._again.set()

    def hurry(self) -> None:
        """Ask now, as the period has changed."""
        self._again.set()

    def _run(self) -> None:
        while not self._is_over:
            began_s = time.monotonic()
            try:
                self.answers.put(self._fetch())
            except Exception as error:  # noqa: BLE001 - raised by the loop, behind the screen
                self.answers.put(error)
            self._wake()
            self._again.wait(max(0.0, began_s + self.period_s - time.monotonic()))
            self._again.clear()


class Watching:
    """See the module. `run` returns the signal that ended it, or 0.

    Args:
        fetch: asks the farm.
        first: the snapshot that is there already.
        terminal: not yet entered.
        period_s: between two snapshots.
        has_colours: whether styles may be colours.
        has_unicode: whether the terminal shows more than ASCII.
    """

    def __init__(
        self,
        fetch: Callable[[], Shot],
        first: Shot,
        terminal: Terminal,
        *,
        period_s: float,
        has_colours: bool,
        has_unicode: bool,
    ) -> None:
        self._terminal = terminal
        self._has_colours = has_colours
        self._is_ascii = not has_unicode
        self._glyphs: Glyphs = UNICODE if has_unicode else ASCII
        self._looking = Looking(period_s=period_s)
        self._session = Session()
        self._shown = self._fit(first)
        self._session.took(self._shown, time.monotonic())
        self._decoder = Decoder()
        self._signals: list[int] = []
        self._awake, self._waker = os.pipe()
        for end in (self._awake, self._waker):
            os.set_blocking(end, False)
        self._asker = Asker(fetch, period_s, self._wake)

    def run(self) -> int:
        """Show the farm until a key or a signal ends it."""
        with self._told_of_signals():
            self._asker.start()
            try:
                with self._terminal:
                    return self._loop()
            except TerminalGoneError:
                return 0
            finally:
                self._asker.stop()

    # ---- the loop -------------------------------------------------------------------------------

    def _loop(self) -> int:
        while True:
            self._draw()
            self._wait()
            while self._signals:
                number = self._signals.pop(0)
                if number in STOPPING:
                    return number
                self._obey(number)
            self._take_answers()
            if self._looking.is_over:
                return 0

    def _wait(self) -> None:
        """Until a key, a signal or an answer comes, or the clock goes on."""
        terminal = self._terminal
        readers = [self._awake, *([] if terminal.keys is None else [terminal.keys])]
        timeout_s = ESCAPE_S if self._decoder.is_waiting else TICK_S
        ready, _, _ = select.select(readers, [], [], timeout_s)
        if self._awake in ready:
            with contextlib.suppress(BlockingIOError):
                while os.read(self._awake, 512):
                    pass
        if terminal.keys in ready:
            self._press(self._decoder.feed(terminal.read()))
        elif not ready:
            self._press(self._decoder.flush())

    def _press(self, keys: list[str]) -> None:
        for key in keys:
            if key == "redraw":
                self._terminal.clear()
            before = self._looking
            self._looking = press(before, key)
            if self._looking.period_s != before.period_s:
                self._asker.period_s = self._looking.period_s
                self._asker.hurry()
            if before.is_paused and not self._looking.is_paused and self._session.shot:
                self._shown = self._session.shot

    def _take_answers(self) -> None:
        while not self._asker.answers.empty():
            answer = self._asker.answers.get()
            now_s = time.monotonic()
            if isinstance(answer, NoFarmError):
                self._session.missed(now_s, time.time())
            elif isinstance(answer, Exception):
                raise answer
            else:
                shot = self._fit(answer)
                self._session.took(shot, now_s)
                if not self._looking.is_paused:
                    self._shown = shot

    def _draw(self) -> None:
        width, height = self._terminal.size
        notices = self._session.notices(time.monotonic(), period_s=self._looking.period_s)
        clock = time_of_day(time.time())
        picture = screen(
            *(self._shown, self._looking, width, height, self._glyphs),
            notices=notices,
            clock=clock,
            is_stale=self._session.is_silent,
        )
        self._looking = replace(self._looking, scroll=picture.scroll, page_lines=picture.page_lines)
        self._terminal.draw(
            [
                paint(padded(each, width), has_styles=True, has_colours=self._has_colours)
                for each in picture.lines
            ]
        )

    def _fit(self, shot: Shot) -> Shot:
        """The snapshot as this terminal can show it."""
        made: Shot = printable_data(shot)
        return in_ascii(made) if self._is_ascii else made

    # ---- signals --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _told_of_signals(self) -> Iterator[None]:
        """Signals are only noted; the loop obeys them. Those that are ignored stay so."""
        before = {number: signal.getsignal(number) for number in TOLD}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN or number in (signal.SIGWINCH, signal.SIGCONT):
                signal.signal(number, self._note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        self._signals.append(number)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._waker, b"!")

    def _obey(self, number: int) -> None:
        if number == signal.SIGWINCH:
            self._terminal.clear()
        elif number == signal.SIGTSTP:
            self._stop()
        elif number == signal.SIGCONT:  # it was stopped by SIGSTOP, which nobody is told of
            self._terminal.reenter()

    def _stop(self) -> None:
        """Ctrl-Z: give the terminal back, stop, and take it again when the shell says so."""
        self._terminal.leave()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # returns when it goes on
        signal.signal(signal.SIGTSTP, self._note)
        self._terminal.reenter()


def in_ascii(data: Any) -> Any:
    r"""Plain data with every text in ASCII: what is none becomes an escape such as \u2026."""
    if isinstance(data, str):
        return data if data.isascii() else data.encode("ascii", "backslashreplace").decode()
    if isinstance(data, dict):
        return {in_ascii(key): in_ascii(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [in_ascii(each) for each in data]
    return data
