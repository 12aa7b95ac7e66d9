"""`farm stats` on a real terminal: it is given back however the command ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import zmq
from rig import clean_environment, eventually, farm_command
from shots import busy_shot

from farm import wire
from farm.cli.terminal import ENTER, LEAVE
from farm.sockets import Role, open_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

WAIT_S = 20.0
ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


class Broker:
    """Answers as a broker process does, with the snapshot it is given; None: not at all."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.shot: dict[str, Any] | None = busy_shot()
        self.asked = 0
        self._is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._is_over = True
        self._thread.join(5)

    def _run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        socket = open_socket(context, Role.CONTROL_SERVER, self.endpoint)
        while not self._is_over:
            if not socket.poll(50):
                continue
            peer, *_ = socket.recv_multipart()
            self.asked += 1
            if self.shot is not None:
                socket.send_multipart([peer, b"", wire.encode(wire.StatsReply(self.shot))])
        context.destroy(linger=0)


class Screen:
    """A terminal of 80 by 24 with `farm stats` on it.

    Args:
        endpoint: what it asks.
        is_controlling: whether Ctrl-C and Ctrl-Z are signals there.
        command: another one than `farm stats`.
    """

    def __init__(
        self,
        endpoint: str,
        *options: str,
        is_controlling: bool = False,
        command: list[str] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(80, 24)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        self.process = subprocess.Popen(
            command or farm_command("stats", "--connect", endpoint, *options),
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env=clean_environment()
            | {"TERM": "xterm-256color", "PYTHONUTF8": "1"}
            | (environment or {}),
            process_group=None if is_controlling else 0,
            start_new_session=is_controlling,
            preexec_fn=self._control if is_controlling else self._obey,  # noqa: PLW1509
        )

    @staticmethod
    def _obey() -> None:
        """Tests in the background of a shell are deaf to these, and so would be their children."""
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)

    def _control(self) -> None:
        self._obey()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for end in (self.master, self.slave):
            with contextlib.suppress(OSError):
                os.close(end)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def read(self) -> bytes:
        """All that was written so far."""
        while select.select([self.master], [], [], 0)[0]:
            try:
                self.seen += os.read(self.master, 65_536)
            except OSError:  # the other end is closed
                break
        return self.seen

    def wait_for(self, text: str, *, since: int = 0) -> int:
        """Wait until a text is there; returns how much was written by then."""
        wanted = text.encode()
        eventually(
            lambda: wanted in ESCAPES.sub(b"", self.read()[since:]),
            WAIT_S,
            lambda: f"{text!r} in {self.read()[since:]!r}",
        )
        return len(self.seen)

    def wait_end(self) -> int:
        eventually(lambda: self.read() and self.process.poll() is not None, WAIT_S, "it ends")
        self.read()
        return self.process.returncode

    @property
    def is_given_back(self) -> bool:
        """Whether the modes are as before, and the own screen was left for good."""
        seen = self.read().decode("utf-8", "replace")
        is_left = seen.count(ENTER) == seen.count(LEAVE) > 0 and seen.rindex(LEAVE) > seen.rindex(
            ENTER
        )
        return termios.tcgetattr(self.slave) == self.before and is_left


@pytest.fixture
def broker(short_path: Path) -> Iterator[Broker]:
    made = Broker(f"ipc://{short_path}/control")
    yield made
    made.close()


@pytest.fixture
def show(broker: Broker) -> Iterator[Callable[..., Screen]]:
    made: list[Screen] = []

    def make(*options: str, **more: Any) -> Screen:
        made.append(Screen(broker.endpoint, *options, **more))
        return made[-1]

    yield make
    for screen in made:
        screen.close()


def test_keys_change_the_page_and_q_gives_the_terminal_back(show: Callable[..., Screen]) -> None:
    """A view that can't be left, or leaves a shell that echoes nothing."""
    screen = show()
    place = screen.wait_for("Keeps up")
    assert termios.tcgetattr(screen.slave) != screen.before
    screen.press("t")
    place = screen.wait_for("by bad", since=place)
    screen.press("s/UNIT-0004\r")
    place = screen.wait_for("1 of 13 tools, by msg/s", since=place)
    screen.resize(160, 40)
    os.kill(screen.process.pid, signal.SIGWINCH)
    place = screen.wait_for("last trouble", since=place)
    screen.press("\x1b[B?")
    screen.wait_for("docs/stats.md", since=place)
    screen.press("q")
    assert screen.wait_end() == 0
    assert screen.is_given_back


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, 0),
        (signal.SIGTERM, -signal.SIGTERM),
        (signal.SIGHUP, -signal.SIGHUP),
        (signal.SIGQUIT, -signal.SIGQUIT),
    ],
)
def test_each_signal_that_ends_it_gives_the_terminal_back(
    show: Callable[..., Screen], number: int, status: int
) -> None:
    """A terminal without a cursor and an echo after `kill`, a lost connection, Ctrl-C."""
    screen = show()
    screen.wait_for("Keeps up")
    os.kill(screen.process.pid, number)
    assert screen.wait_end() == status
    assert screen.is_given_back


def test_an_error_is_told_on_the_screen_of_before(
    show: Callable[..., Screen], broker: Broker
) -> None:
    """A traceback that vanishes with the other screen, or a terminal that stays in its modes."""
    screen = show()
    screen.wait_for("Keeps up")
    broker.shot = {"state": "of another version"}
    assert screen.wait_end() != 0
    assert screen.is_given_back
    after = screen.seen.decode().rpartition(LEAVE)[2]
    assert "KeyError" in after


def test_ctrl_c_of_the_keyboard_ends_it(show: Callable[..., Screen]) -> None:
    """A Ctrl-C that is taken for a key, or prints a traceback."""
    screen = show(is_controlling=True)
    screen.wait_for("Keeps up")
    screen.press("\x03")
    assert screen.wait_end() == 0
    assert screen.is_given_back
    assert b"Traceback" not in screen.seen


@pytest.mark.parametrize("number", [signal.SIGTSTP, signal.SIGSTOP])
def test_a_stop_and_going_on_give_and_take_the_terminal(
    show: Callable[..., Screen], number: int
) -> None:
    """Ctrl-Z into a shell that shows nothing of what is typed; `fg` to a dead picture."""
    screen = show()
    screen.wait_for("Keeps up")
    os.kill(screen.process.pid, number)
    pid, status = os.waitpid(screen.process.pid, os.WUNTRACED)
    assert pid == screen.process.pid
    assert os.WIFSTOPPED(status)
    if number == signal.SIGTSTP:  # of SIGSTOP nobody is told
        assert screen.is_given_back
    termios.tcsetattr(screen.slave, termios.TCSANOW, screen.before)
    stopped = len(screen.read())
    os.kill(screen.process.pid, signal.SIGCONT)
    place = screen.wait_for("Keeps up", since=stopped)
    assert termios.tcgetattr(screen.slave) != screen.before
    assert ENTER.encode() in screen.seen[stopped:]
    screen.press("w")
    screen.wait_for("by worker", since=place)
    screen.press("q")
    assert screen.wait_end() == 0
    assert termios.tcgetattr(screen.slave) == screen.before


def test_ctrl_z_and_fg_in_a_shell(show: Callable[..., Screen], broker: Broker) -> None:
    """The same as people do it, with a shell's own job control."""
    screen = show(is_controlling=True, command=["bash", "--norc", "-i"])
    line = " ".join(farm_command("stats", "--connect", broker.endpoint))
    screen.press(f"{line}\r")
    place = screen.wait_for("Keeps up")
    screen.press("\x1a")
    place = screen.wait_for("Stopped", since=place)
    assert screen.seen.rindex(LEAVE.encode()) > screen.seen.rindex(ENTER.encode())
    screen.press("echo $((6*7))hello\r")
    place = screen.wait_for("42hello", since=place)
    screen.press("fg\r")
    place = screen.wait_for("Keeps up", since=place)
    screen.press("q")
    eventually(lambda: screen.read().count(LEAVE.encode()) == 2, WAIT_S, "it has ended")
    screen.press("exit\r")
    assert screen.wait_end() == 0
    assert screen.seen.rindex(LEAVE.encode()) > screen.seen.rindex(ENTER.encode())


def test_a_farm_that_goes_away_and_comes_back_is_told(
    show: Callable[..., Screen], broker: Broker
) -> None:
    """A dead picture that looks like a quiet farm; a view that must be started again."""
    screen = show()
    place = screen.wait_for("Keeps up")
    shot, broker.shot = broker.shot, None
    place = screen.wait_for("NO FARM ANSWERS", since=place)
    assert shot is not None
    broker.shot = shot | {"up_s": 3.0}
    place = screen.wait_for("was started anew", since=place)
    broker.shot = None
    screen.wait_for("NO FARM ANSWERS", since=place)
    screen.press("q")  # while it is asked and does not answer
    assert screen.wait_end() == 0
    assert screen.is_given_back


@pytest.mark.parametrize(
    ("options", "environment", "has_colours"),
    [((), {}, True), (("--no-color",), {}, False), ((), {"NO_COLOR": "1"}, False)],
)
def test_no_colour_where_none_is_wanted(
    show: Callable[..., Screen],
    options: tuple[str, ...],
    environment: dict[str, str],
    *,
    has_colours: bool,
) -> None:
    """Colours on a terminal of somebody who can't tell them apart."""
    screen = show(*options, environment=environment)
    screen.wait_for("Keeps up")
    screen.press("q")
    screen.wait_end()
    assert (re.search(rb"\x1b\[(?:\d+;)*3[1-6]m", screen.seen) is not None) is has_colours


def test_a_locale_without_unicode_is_served_in_ascii(show: Callable[..., Screen]) -> None:
    """Question marks and broken columns on a console of the C locale."""
    screen = show(environment={"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C",
                               "PYTHONIOENCODING": "ascii"})  # fmt: skip
    screen.wait_for("Keeps up")
    screen.press("t")
    screen.wait_for("by bad")
    screen.press("q")
    screen.wait_end()
    assert screen.seen.isascii()
    assert b"bad" in screen.seen


def test_a_terminal_that_is_closed_ends_it_quietly(show: Callable[..., Screen]) -> None:
    """A process that draws for ever to a window that was closed, and fills a core."""
    screen = show()
    screen.wait_for("Keeps up")
    os.close(screen.slave)
    os.close(screen.master)
    assert screen.process.wait(WAIT_S) in (0, -signal.SIGHUP)


def test_a_reader_that_goes_away_ends_the_stream_quietly(broker: Broker) -> None:
    """A traceback in a log after `farm stats --ndjson | head -1`."""
    with subprocess.Popen(
        farm_command("stats", "--connect", broker.endpoint, "--ndjson", "--interval", "0.1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"{")
        before = time.monotonic()
        process.stdout.close()
        assert process.wait(WAIT_S) == 0
        assert time.monotonic() - before < WAIT_S
        assert process.stderr.read() == b""
