"""The configuration in force: the settings of the file as they were when it was last found good.

The processes of a farm read a copy in its state directory. So a file that is being edited, or is
wrong, does not reach a process that is merely started again; it does when an operator says so. And
a setting that needs a restart of the farm does not come into force with a part of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from farm.config.reload import is_reloadable, take_over
from farm.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from farm.config import Loaded

COPY_NAME = "farm.yaml"
_PRIVATE = 0o600  # a password may stand in it


class InForce:
    """See the module.

    Attributes:
        config: what is in force.
        edition: another number after each `renew`, also where no setting changed: what the
            settings name, weights or code, may have been replaced.

    Args:
        loaded: the configuration that the farm is started with; without a file nothing is copied.
        state_dir: where the copy lies.
        read: reads it anew, with environment and options over the file; raises FarmError.

    Raises:
        StateError: the copy can't be written.
    """

    def __init__(self, loaded: Loaded, state_dir: Path, read: Callable[[], Loaded]) -> None:
        self.config = loaded.config
        self._read = read
        self.copy = None if loaded.path is None else state_dir / COPY_NAME
        # neither those of the environment nor of options: the children have these as well
        self._settings = dict(loaded.written)
        self.edition = self._last_edition = 0
        self._former = (self.config, self._settings, self.edition)
        try:
            self._write(self._settings)
        except OSError as error:
            raise StateError(
                f"the configuration can't be copied to {self.copy} ({error.strerror}): make room, "
                "or choose another folder with --state-dir"
            ) from error

    def renew(self) -> tuple[list[str], list[str]]:
        """Read the operator's file again, and put in force what can be.

        Returns:
            The dotted keys that changed: those that the farm takes over, those that need a restart.

        Raises:
            FarmError, OSError: it can't be used or copied, and nothing has changed.
        """
        loaded = self._read()
        config, taken, waiting = take_over(self.config, loaded.config)
        kept = {key: value for key, value in self._settings.items() if not is_reloadable(key)}
        new = {key: value for key, value in loaded.written.items() if is_reloadable(key)}
        self._write(kept | new)
        self._former = (self.config, self._settings, self.edition)
        self.config, self._settings = config, kept | new
        self._last_edition += 1
        self.edition = self._last_edition
        return taken, waiting

    def take_back(self) -> None:
        """Put in force again what was before the last `renew`.

        Raises:
            OSError: it can't be written; for this process it is in force all the same.
        """
        self.config, self._settings, self.edition = self._former
        self._write(self._settings)

    def _write(self, settings: Mapping[str, Any]) -> None:
        if self.copy is None:
            return
        nested: dict[str, Any] = {}
        for key, value in settings.items():
            *sections, name = key.split(".")
            section = nested
            for each in sections:
                section = section.setdefault(each, {})
            section[name] = value
        new = self.copy.with_suffix(".new")
        new.touch(mode=_PRIVATE)
        new.write_text(yaml.safe_dump(nested, allow_unicode=True), encoding="utf-8")
        new.replace(self.copy)
