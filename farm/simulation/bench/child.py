"""A process of the bench that talks in lines of JSON, seen from its parent and from within.

It is told its orders in one line, says things in lines of one key each, and is told further words.
"""

from __future__ import annotations

import io
import json
import queue
import select
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any, Final, Self

from farm.errors import FarmError
from farm.simulation.tether import tethered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STOP_TIMEOUT_S: Final = 10.0
_ENDED: Final = ""


class Child:
    """A child process; a context manager that ends it. Enter it from a thread that lives on.

    Args:
        module: run as ``python -m``.
        orders: what it is told first.
    """

    def __init__(self, module: str, orders: Mapping[str, Any]) -> None:
        self._module = module
        self._orders = orders
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        process = subprocess.Popen(
            tethered([sys.executable, "-m", self._module]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # a Ctrl-C in the terminal is not meant for it
        )
        assert process.stdout is not None
        self._process = process
        self._thread = threading.Thread(
            target=self._listen, args=(process.stdout,), name=self._module, daemon=True
        )
        self._thread.start()
        self.tell(json.dumps(self._orders))
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_S)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None
        return self._process.pid

    def check(self) -> None:
        """Raise if it has ended.

        Raises:
            FarmError: with what it said last, if that was a failure.
        """
        while self._process is not None and self._process.poll() is not None:
            self._take(timeout_s=STOP_TIMEOUT_S)

    def tell(self, line: str) -> None:
        """Send it one line.

        Raises:
            FarmError: it has ended.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._take(timeout_s=STOP_TIMEOUT_S)
            raise FarmError(f"{self._module} ended before its time") from None

    def wait(
        self,
        key: str,
        timeout_s: float,
        each: Callable[[str, Any], None] = lambda _key, _value: None,
    ) -> Any:
        """Wait until it says something under this key.

        Args:
            key: of the line that is waited for.
            timeout_s: for it.
            each: called with the key and value of every line, this one included.

        Raises:
            FarmError: it reports a failure, ends, or takes too long.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            name, value = self._take(timeout_s=deadline_s - time.monotonic())
            each(name, value)
            if name == key:
                return value

    def _take(self, *, timeout_s: float) -> tuple[str, Any]:
        try:
            line = self._lines.get(timeout=max(timeout_s, 0.0))
        except queue.Empty:
            raise FarmError(f"{self._module} says nothing for too long") from None
        if line == _ENDED:
            raise FarmError(f"{self._module} ended before its time")
        [(name, value)] = json.loads(line).items()
        if name == "failure":
            raise FarmError(f"{self._module} failed: {value}")
        return name, value

    def _listen(self, lines: IO[str]) -> None:
        for line in lines:
            self._lines.put(line)
        self._lines.put(_ENDED)


class Parent:
    """The parent as a child sees it: its orders, its further words, and somebody to talk to."""

    def __init__(self) -> None:
        # not sys.stdin, whose buffer would hide from `select` what is there
        self._input = io.FileIO(sys.stdin.fileno(), closefd=False)
        self.orders: dict[str, Any] = json.loads(self._input.readline())

    def say(self, key: str, value: Any = None) -> None:
        """One line."""
        sys.stdout.write(json.dumps({key: value}) + "\n")
        sys.stdout.flush()

    def has_word(self, timeout_s: float = 0.0) -> bool:
        """Whether it tells something, or is gone; waits at most so long."""
        return bool(select.select([self._input], [], [], timeout_s)[0])

    def word(self) -> str:
        """The next word; "" when the parent is gone. Waits for it."""
        return self._input.readline().decode().strip()


def as_child(work: Callable[[Parent], None]) -> None:
    """Do a child's work; a failure is told to the parent, not shown."""
    parent = Parent()
    try:
        work(parent)
    except FarmError as error:
        parent.say("failure", str(error))
        sys.exit(1)
