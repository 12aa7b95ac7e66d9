"""`farm broker`: the broker process, alone or under the supervisor."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

import click

from farm import log
from farm.broker.process import BrokerProcess
from farm.cli.options import config_option, load, state_dir_option
from farm.references import check_references
from farm.state_dir import client_id, endpoints, lock, resolve_state_dir
from farm.supervisor.parent import die_with_parent

if TYPE_CHECKING:
    from pathlib import Path

    from farm.config import Config


@click.command()
@config_option
@state_dir_option
@click.option(
    "-w",
    "--workers",
    type=click.IntRange(0, 1000),
    help="How many workers to expect.  [default: mqtt.processing.workers]",
)
@click.option("--launch", hidden=True, help="How the supervisor launches workers.")
@click.option("--again", is_flag=True, hidden=True, help="This farm had a broker already.")
@click.option("--parent", type=int, hidden=True, help="Die with this process.")
def command(
    *,
    config_path: Path | None,
    state_dir: Path | None,
    workers: int | None,
    launch: str | None,
    again: bool,
    parent: int | None,
) -> None:
    """Run the broker process alone (what `farm start` supervises).

    Workers are launched by hand with `farm worker` and the same --state-dir. SIGTERM drains.

    \b
    Example:
      farm broker --state-dir /tmp/farm & farm worker --state-dir /tmp/farm
    """
    if parent is not None and not die_with_parent(parent):
        sys.exit(1)
    overrides = {"mqtt.processing.workers": workers, "workers.launch": launch}

    def read_config() -> Config:
        return load(config_path, state_dir=state_dir, overrides=overrides).config

    config = read_config()
    if parent is None:  # else the parent has; what vanished since must not end a running farm
        check_references(config)
    log.set_up(level=config.log.level, style=config.log.format, process="broker")
    directory = resolve_state_dir(config, os.environ)
    # under the supervisor the directory is locked already, by the parent
    with lock(directory) if parent is None else contextlib.nullcontext():
        process = BrokerProcess(
            config,
            endpoints=endpoints(config, directory),
            state_dir=directory,
            client_id=_client_id(config, directory),
            instance=config.partition.named(config.instance or socket.gethostname()),
            reload=read_config,
            is_restart=again,
        )
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a reload is the supervisor's
        signal.signal(signal.SIGTERM, lambda *_: process.asked_to_end())
        signal.signal(signal.SIGINT, lambda *_: process.asked_to_end())
        signal.signal(signal.SIGQUIT, lambda *_: process.stop_at_once())
        sys.exit(process.run())


def _client_id(config: Config, directory: Path) -> str:
    configured = config.mqtt.broker.client_id
    return config.partition.named(configured) if configured else client_id(directory)
