"""`farm start`: the supervisor in the foreground."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

import click

from farm.cli.options import PAGE_LISTEN, config_option, state_dir_option
from farm.supervisor.spawning import spawn_nursery
from farm.systemd import of_environment

if TYPE_CHECKING:
    from pathlib import Path

    from farm.config import Loaded

EXEC = "exec"


@click.command()
@config_option
@state_dir_option
@click.option(
    "-w",
    "--workers",
    type=click.IntRange(0, 1000),
    help="How many workers without a GPU.  [default: mqtt.processing.workers]",
)
@click.option(
    "--launch",
    "--launcher",
    type=click.Choice(["nursery", EXEC, "ray"]),
    help="Fork workers from a process that has the model, start each by itself, or have them on "
    "the machines of a Ray cluster.  [default: nursery]",
)
@click.option(
    "--page", "has_page", is_flag=True, help=f"Serve the page as well, at {PAGE_LISTEN} unless "
    "page.listen says otherwise."
)  # fmt: skip
def command(
    config_path: Path | None, state_dir: Path | None, workers: int | None, launch: str | None,
    *, has_page: bool,
) -> None:  # fmt: skip
    """Run the farm: the broker process and its workers, in the foreground.

    Logs go to standard output. SIGTERM or Ctrl-C drains (finishes what is open) and exits 0; a
    second one stops at once. SIGHUP, or `farm reload`, reads the configuration again and replaces
    the workers one after the other; a wrong one is refused, and the farm goes on as it was.
    Each GPU that the model can use gets a worker beside them (workers.gpus, docs/gpu.md).

    \b
    Examples:
      farm start --workers 10 --config etc/farm.yaml
      farm start --launch exec
      farm start --page                   then open http://127.0.0.1:8780/
      farm start --launch ray --workers 40 --config etc/farm.yaml
      MQTT_BROKER_HOST=broker.plant farm start
    """
    service = of_environment(os.environ)  # first: no child is to speak for this process
    # Before all the rest: it takes longest to come up, and it can while the rest is imported here.
    # A configuration that is wrong, or wants none, ends it before it has loaded anything.
    early = None
    if launch in (None, "nursery") and workers != 0:
        with contextlib.suppress(OSError):  # no room for it: the supervisor will say so
            early = spawn_nursery()
    from farm.cli.checked import read_checked, where  # noqa: PLC0415 - see above
    from farm.gpus import plan  # noqa: PLC0415 - see above

    overrides = {"mqtt.processing.workers": workers, "workers.launch": launch}
    loaded = read_checked(config_path, state_dir, overrides)
    if has_page and not loaded.config.page.listen:
        overrides["page.listen"] = PAGE_LISTEN
        loaded = read_checked(config_path, state_dir, overrides)
    gpus = plan(loaded.config, os.environ)
    if gpus.is_only:
        overrides["mqtt.processing.workers"] = 0
        loaded = read_checked(config_path, state_dir, overrides)
    if early is not None and loaded.config.workers.launch != EXEC and not gpus.is_only:
        early.tell(loaded.config, where(loaded.config)[1].control)
    from farm.cli.foreground import run  # noqa: PLC0415 - see above

    def read() -> Loaded:
        return read_checked(config_path, state_dir, overrides)

    sys.exit(run(loaded, read, early, gpus, service))
