"""The `Terminal`: a screen of its own on the user's terminal, and the keyboard, given back in full.

Owns termios and the escape sequences of the screen. Whoever enters it leaves it, on any way out but
SIGKILL; a terminal that is gone is `TerminalGoneError`, and needs nothing any more.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import termios
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

# DEC private modes: 1049 the alternate screen, 25 the cursor, 7 wrapping at the right edge;
# 2026 shows a picture at once where the terminal knows it, and means nothing elsewhere.
ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
LEAVE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
BEGIN_PICTURE = "\x1b[?2026h\x1b[H"
END_PICTURE = "\x1b[?2026l"
READ_BYTES = 1024
LEAST_COLUMNS, LEAST_LINES = 20, 5
LOCAL_FLAGS = 3  # of what tcgetattr gives
CONTROL_CHARACTERS = 6


class TerminalGoneError(Exception):
    """The terminal was closed, or the pipe behind it."""


class Terminal:
    """See the module; a context manager.

    Args:
        output: the file descriptor to draw on.
        keys: that to read keys from; None: nobody can press one.
    """

    def __init__(self, output: int, keys: int | None) -> None:
        self._output = output
        self.keys = keys
        self._before: list[object] | None = None
        self._is_entered = False

    def __enter__(self) -> Self:
        self.enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            columns, lines = os.get_terminal_size(self._output)
        except OSError:
            columns, lines = shutil.get_terminal_size()
        return max(columns or 80, LEAST_COLUMNS), max(lines or 24, LEAST_LINES)

    def enter(self) -> None:
        """Take the screen and the keyboard; Ctrl-C and Ctrl-Z stay what they are."""
        if self.keys is not None:
            with _gone_is_told():
                self._before = termios.tcgetattr(self.keys)
                self._take_keys(self.keys)
        self._is_entered = True
        self._write(ENTER)

    def reenter(self) -> None:
        """The process was stopped and goes on: the shell has used the terminal meanwhile."""
        if self.keys is not None:
            with _gone_is_told():
                self._take_keys(self.keys)
        self._is_entered = True
        self._write(ENTER)

    def leave(self) -> None:
        """Give both back. Never raises; doing it twice does no harm."""
        if not self._is_entered:
            return
        self._is_entered = False
        with contextlib.suppress(TerminalGoneError):
            self._write(LEAVE)
        if self.keys is not None and self._before is not None:
            with contextlib.suppress(termios.error, OSError):
                termios.tcsetattr(self.keys, termios.TCSADRAIN, self._before)  # type: ignore[arg-type]

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines, each as wide as the terminal, as many as it has."""
        # Nothing is cleared at the end of a line: behind a full one that would take its last sign.
        body = "\r\n".join(lines)
        self._write(f"{BEGIN_PICTURE}{body}{END_PICTURE}")

    def clear(self) -> None:
        """Wipe all, as after a change of size."""
        self._write("\x1b[2J")

    def read(self) -> bytes:
        """What was typed; to be called when there is something.

        Raises:
            TerminalGoneError: nothing will be typed any more.
        """
        assert self.keys is not None
        with _gone_is_told():
            data = os.read(self.keys, READ_BYTES)
        if not data:
            raise TerminalGoneError
        return data

    @staticmethod
    def _take_keys(keys: int) -> None:
        """Keys at once, and not echoed."""
        mode = termios.tcgetattr(keys)
        mode[LOCAL_FLAGS] &= ~(termios.ICANON | termios.ECHO)
        mode[CONTROL_CHARACTERS][termios.VMIN] = 1
        mode[CONTROL_CHARACTERS][termios.VTIME] = 0
        termios.tcsetattr(keys, termios.TCSADRAIN, mode)

    def _write(self, text: str) -> None:
        data = text.encode(encoding(), "backslashreplace")
        with _gone_is_told():
            while data:
                data = data[os.write(self._output, data) :]


@contextlib.contextmanager
def _gone_is_told() -> Iterator[None]:
    try:
        yield
    except termios.error as error:
        raise TerminalGoneError from error
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO):
            raise TerminalGoneError from error
        raise


def encoding() -> str:
    """That of the standard output, as the locale has it."""
    return getattr(sys.stdout, "encoding", None) or "ascii"


def has_unicode() -> bool:
    """Whether the terminal's locale can show more than ASCII."""
    return encoding().lower().replace("-", "").replace("_", "") == "utf8"
