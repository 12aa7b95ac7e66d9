"""The `Patient`: the configuration that is looked at, and the farm that runs with it, if any."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.errors import NoFarmError, StateError
from farm.state_dir import holder, locate_state_dir

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from farm.config import Config, Loaded


@dataclass(frozen=True, slots=True)
class Patient:
    """See the module.

    Attributes:
        loaded: the configuration, which is free of mistakes in itself.
        state_dir: where its farm lives or would live.
        farm_pid: of the farm that runs there; None: none does, or it can't be known.
    """

    loaded: Loaded
    state_dir: Path
    farm_pid: int | None

    @property
    def config(self) -> Config:
        """The configuration."""
        return self.loaded.config


def admit(loaded: Loaded, environ: Mapping[str, str]) -> Patient:
    """The patient of a configuration; makes nothing.

    Raises:
        StateError: there is no place for the state.
    """
    state_dir = locate_state_dir(loaded.config, environ)
    pid = None
    with suppress(NoFarmError, StateError):  # a directory that can't be read is a finding
        pid = holder(state_dir)
    return Patient(loaded, state_dir, pid)
