"""The configuration in force: the file as it was when it was last found good.

The processes of a farm read a copy in its state directory. So a file that is being edited, or is
wrong, does not reach a worker that is merely started again; it does when an operator says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.config.reload import take_over
from farm.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from farm.config import Config

COPY_NAME = "farm.yaml"
_PRIVATE = 0o600  # a password may stand in it


class InForce:
    """See the module.

    Args:
        config: read from `source` when the farm was started.
        source: the operator's file; None: there is none, and nothing is copied.
        state_dir: where the copy lies.
        read: reads `source` anew, with environment and options over it; raises FarmError.

    Raises:
        StateError: the copy can't be written.
    """

    def __init__(
        self, config: Config, source: Path | None, state_dir: Path, read: Callable[[], Config]
    ) -> None:
        self.config = config
        self._source = source
        self._read = read
        self.copy = None if source is None else state_dir / COPY_NAME
        try:
            self._text = b"" if source is None else source.read_bytes()
            self._write()
        except OSError as error:
            raise StateError(
                f"the configuration can't be copied to {self.copy} ({error.strerror}): make room, "
                "or choose another folder with --state-dir"
            ) from error
        self._former = (self.config, self._text)

    def renew(self) -> tuple[list[str], list[str]]:
        """Read the operator's file again, and put it in force.

        Returns:
            The dotted keys that changed: those that the farm takes over, those that need a restart.

        Raises:
            FarmError: it can't be used, and nothing has changed.
        """
        text = b"" if self._source is None else self._source.read_bytes()
        config, taken, waiting = take_over(self.config, self._read())
        self._former = (self.config, self._text)
        self.config, self._text = config, text
        self._write()
        return taken, waiting

    def take_back(self) -> None:
        """Put in force again what was before the last `renew`."""
        self.config, self._text = self._former
        self._write()

    def _write(self) -> None:
        if self.copy is None:
            return
        new = self.copy.with_suffix(".new")
        new.touch(mode=_PRIVATE)
        new.write_bytes(self._text)
        new.replace(self.copy)
