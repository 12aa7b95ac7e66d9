"""What `farm start` does once everything is imported: lock, and supervise."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

from farm import log
from farm.cli.checked import where
from farm.state_dir import lock
from farm.supervisor.in_force import InForce
from farm.supervisor.process import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from farm.config import Loaded
    from farm.errors import ExitCode
    from farm.gpus import Plan
    from farm.supervisor.spawning import Cradle
    from farm.systemd import Service


MAX_FILES = 65_536


def run(
    loaded: Loaded,
    read: Callable[[], Loaded],
    early: Cradle | None,
    gpus: Plan,
    service: Service,
) -> ExitCode:
    """Run the farm until it is told to stop; returns the exit code.

    Args:
        loaded: the configuration.
        read: reads it again.
        early: a nursery that was started already, if any.
        gpus: which workers get a GPU.
        service: where systemd is told of it.

    Raises:
        FarmError: the farm can't be started, and nothing was.
    """
    config = loaded.config
    log.set_up(level=config.log.level, style=config.log.format, process="supervisor")
    for note in loaded.notes:
        log.get().info("configuration_note", note=note)
    if os.geteuid() == 0:
        log.get().warning(
            "running_as_root",
            effect="whoever finds a hole in a model or a library has this whole machine",
            cure="give farm a user of its own; etc/farm.service does",
        )
    for name, gpu in gpus.workers.items():
        log.get().info("gpu_worker", worker=name, device=gpu.device, model=gpu.model, uuid=gpu.uuid)
    raise_file_limit()
    directory, endpoints = where(config)
    with lock(directory):
        in_force = InForce(loaded, directory, read)
        child_args = ["--state-dir", str(directory)]
        if in_force.copy is not None:
            child_args += ["--config", str(in_force.copy)]
        supervisor = Supervisor(
            in_force,
            endpoints=endpoints,
            child_args=child_args,
            early=early,
            gpus=gpus,
            service=service,
        )
        return supervisor.run()


def raise_file_limit() -> None:
    """As many open files as the system lets us have: each connection is one, a stranger's, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
