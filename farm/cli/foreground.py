"""What `farm start` does once everything is imported: check, lock, supervise."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from farm import log
from farm.cli.options import load
from farm.references import check_references
from farm.state_dir import endpoints, lock, resolve_state_dir
from farm.supervisor.in_force import InForce
from farm.supervisor.process import Supervisor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from farm.config import Loaded
    from farm.errors import ExitCode
    from farm.supervisor.spawning import Cradle


def run(
    config_path: Path | None,
    state_dir: Path | None,
    overrides: Mapping[str, Any],
    early: Cradle | None,
) -> ExitCode:
    """Run the farm until it is told to stop; returns the exit code.

    Args:
        config_path: of the option.
        state_dir: of the option.
        overrides: values of further options by dotted key.
        early: a nursery that was started already, if any.

    Raises:
        FarmError: the farm can't be started, and nothing was.
    """

    def read() -> Loaded:
        loaded = load(config_path, state_dir=state_dir, overrides=overrides)
        check_references(loaded.config)
        return loaded

    loaded = read()
    config = loaded.config
    log.set_up(level=config.log.level, style=config.log.format, process="supervisor")
    for note in loaded.notes:
        log.get().info("configuration_note", note=note)
    directory = resolve_state_dir(config, os.environ)
    with lock(directory):
        in_force = InForce(loaded, directory, read)
        child_args = ["--state-dir", str(directory)]
        if in_force.copy is not None:
            child_args += ["--config", str(in_force.copy)]
        supervisor = Supervisor(
            in_force,
            endpoints=endpoints(config, directory),
            child_args=child_args,
            early=early,
        )
        return supervisor.run()
