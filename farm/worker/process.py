"""The worker process: joins the farm, loads its model, computes until it is told to leave."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from farm import log
from farm.config import Config
from farm.errors import DeviceError, ExitCode, FarmError
from farm.gpus import device_settings
from farm.models.registry import DEFAULT_ID
from farm.worker.compute import Computer
from farm.worker.equipment import equip
from farm.worker.fetching import cache_directory, model_here
from farm.worker.reader import Loaded, Reader

if TYPE_CHECKING:
    from farm import wire
    from farm.sockets import Credentials
    from farm.systemd import Service
    from farm.worker.equipment import Equipment

JOIN_TIMEOUT_S = 5.0


def run(
    *,
    name: str,
    control_endpoint: str,
    by_hand: bool,
    inherited: Equipment | None = None,
    credentials: Credentials | None = None,
    device: str = "",
    batch_jobs: int = 0,
    service: Service | None = None,
) -> ExitCode:
    """Be a worker until drained; returns the exit code, ANEW where it is to be started again.

    Args:
        name: in logs and stats.
        control_endpoint: of the broker.
        by_hand: somebody looks at this worker's own output; else the broker tells of it.
        inherited: what this process was forked with; used where it is what the broker wants.
        credentials: of a worker on another machine.
        device: the GPU that is the only one to be seen, for people; "": none.
        batch_jobs: the most that one batch on it may have; 0: what the farm says.
        service: where systemd is told of it; by default nowhere.
    """
    reader = Reader(
        name=name,
        control_endpoint=control_endpoint,
        credentials=credentials,
        device=device,
        batch_jobs=batch_jobs,
        service=service,
    )
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda got, _frame: reader.drain(signal.Signals(got).name))
    reader.start()
    welcome = reader.welcomes.get()
    if isinstance(welcome, str):
        # drained before any broker answered, or failed; the reader has said why
        return ExitCode.FAILURE if reader.failed else ExitCode.OK
    try:
        told = _configuration(welcome, control_endpoint, credentials, reader)
        config = device_settings(told, device)
        reader.set_heartbeat(config.workers.heartbeat_interval_s)
        equipment = _take_over(inherited, config) or equip(config, welcome.batch_jobs)
    # a model may fail in any way: say it in one line, and let the supervisor back off
    except Exception as error:  # noqa: BLE001
        if reader.is_leaving:  # whoever told it to does not care any more
            return ExitCode.OK
        say_unusable(error)
        return ExitCode.MODEL
    model = equipment.model
    computer = Computer(model, equipment.adapter, device=device)
    try:
        golden = computer.check(welcome.golden)
        if by_hand:
            log.get().info("worker_joins", farm=control_endpoint, model=model.version)
        load_s = 0.0 if equipment is inherited else equipment.load_s
        reader.ready(Loaded(model.version, model.content_hash, load_s, golden))
        while (work := reader.next_batch()) is not None:
            reader.post(computer.run(work.jobs, work.worker_id))
    except DeviceError as error:
        # as if it had crashed: its jobs go back, and whether a new process can use the GPU its
        # warm-up tells
        log.get().error("gpu_failed", reason=str(error), next="a new process")
        reader.give_up(str(error))
    reader.join(JOIN_TIMEOUT_S)
    if by_hand:
        log.get().info("worker_left", farm=control_endpoint)
    if reader.failed:
        return ExitCode.FAILURE
    return ExitCode.ANEW if reader.is_to_return else ExitCode.OK


def _configuration(
    welcome: wire.Welcome, control_endpoint: str, credentials: Credentials | None, reader: Reader
) -> Config:
    """What the broker has told; on another machine with the place of the model here."""
    told = welcome.config
    if credentials is not None and welcome.package:
        cache = cache_directory(os.environ)
        package = model_here(
            welcome.package, control_endpoint, credentials, cache, lambda: reader.is_leaving
        )
        settings = {**told["model_settings"], "weights": str(package.folder)}
        # By the farm's id it might be another model here, or none.
        processing = {**told["mqtt"]["processing"], "model_id": DEFAULT_ID, "models_dir": None}
        mqtt = {**told["mqtt"], "processing": processing}
        told = {**told, "mqtt": mqtt, "model": "", "model_settings": settings}
    return Config.model_validate(told)


def say_unusable(error: Exception) -> None:
    """The one line about a model that could not be loaded or warmed up."""
    log.get().error("model_unusable", reason=str(error), exc_info=not isinstance(error, FarmError))


def _take_over(inherited: Equipment | None, config: Config) -> Equipment | None:
    if inherited is not None and not inherited.fits(config):
        log.get().info("worker_loads_itself", cause="the broker has another configuration")
        return None
    return inherited
