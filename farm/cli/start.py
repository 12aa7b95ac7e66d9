"""`farm start`: the supervisor in the foreground."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from farm import log
from farm.cli.options import config_option, load, state_dir_option
from farm.references import check_references
from farm.state_dir import endpoints, lock, resolve_state_dir
from farm.supervisor.in_force import InForce
from farm.supervisor.process import Supervisor

if TYPE_CHECKING:
    from pathlib import Path

    from farm.config import Loaded


@click.command()
@config_option
@state_dir_option
@click.option("-w", "--workers", type=click.IntRange(0, 1000), help="How many local workers.")
@click.option(
    "--launch",
    type=click.Choice(["nursery", "exec"]),
    help="Fork workers from a process that has the model, or start each by itself.  "
    "[default: nursery]",
)
def command(
    config_path: Path | None, state_dir: Path | None, workers: int | None, launch: str | None
) -> None:
    """Run the farm: the broker process and its workers, in the foreground.

    Logs go to standard output. SIGTERM or Ctrl-C drains (finishes what is open) and exits 0; a
    second one stops at once. SIGHUP, or `farm reload`, reads the configuration again and replaces
    the workers one after the other; a wrong one is refused, and the farm goes on as it was.

    \b
    Examples:
      farm start --workers 10 --config etc/farm.yaml
      farm start --launch exec
      MQTT_BROKER_HOST=broker.plant farm start
    """
    overrides = {"mqtt.processing.workers": workers, "workers.launch": launch}

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
            in_force, endpoints=endpoints(config, directory), child_args=child_args
        )
        sys.exit(supervisor.run())
