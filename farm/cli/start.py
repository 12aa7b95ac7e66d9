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
from farm.supervisor.process import Supervisor

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@config_option
@state_dir_option
@click.option("-w", "--workers", type=click.IntRange(0, 1000), help="How many local workers.")
def command(config_path: Path | None, state_dir: Path | None, workers: int | None) -> None:
    """Run the farm: the broker process and its workers, in the foreground.

    Logs go to standard output. SIGTERM or Ctrl-C drains (finishes what is open) and exits 0; a
    second one stops at once.

    \b
    Examples:
      farm start --workers 10 --config etc/farm.yaml
      MQTT_BROKER_HOST=broker.plant farm start
    """
    overrides = {"mqtt.processing.workers": workers}
    loaded = load(config_path, state_dir=state_dir, overrides=overrides)
    config = loaded.config
    check_references(config)
    log.set_up(level=config.log.level, style=config.log.format, process="supervisor")
    for note in loaded.notes:
        log.get().info("configuration_note", note=note)
    directory = resolve_state_dir(config, os.environ)
    places = endpoints(config, directory)
    child_args = ["--state-dir", str(directory)]
    if config_path is not None:
        child_args += ["--config", str(config_path)]
    broker_args = ["--workers", str(workers)] if workers is not None else []
    with lock(directory):
        supervisor = Supervisor(
            config, endpoints=places, child_args=child_args, broker_args=broker_args
        )
        sys.exit(supervisor.run())
