"""The worker process: joins the farm, loads its model, computes until it is told to leave."""

from __future__ import annotations

import os
import signal
import sys
import time

from farm import log
from farm.adapter import load_adapter
from farm.config import Config
from farm.errors import ExitCode, FarmError
from farm.models.registry import load_model
from farm.worker.compute import Computer
from farm.worker.reader import Loaded, Reader

JOIN_TIMEOUT_S = 5.0


def limit_threads(threads: int) -> None:
    """One thread per worker: N workers with all-core OpenMP is slower than one. Before torch!"""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))


def run(*, name: str, control_endpoint: str, by_hand: bool) -> ExitCode:
    """Be a worker until drained; returns the exit code.

    `by_hand`: somebody looks at this worker's own output; else the broker tells of it.
    """
    reader = Reader(name=name, control_endpoint=control_endpoint)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda got, _frame: reader.drain(signal.Signals(got).name))
    reader.start()
    welcome = reader.welcomes.get()
    if isinstance(welcome, str):
        # drained before any broker answered, or failed; the reader has said why
        return ExitCode.FAILURE if reader.failed else ExitCode.OK
    try:
        config = Config.model_validate(welcome.config)
        reader.set_heartbeat(config.workers.heartbeat_interval_s)
        started_s = time.monotonic()
        limit_threads(config.workers.threads)
        adapter = load_adapter(config)
        processing = config.mqtt.processing
        model = load_model(
            config.model, processing.model_id, config.model_settings, processing.models_dir
        )
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(config.workers.threads)
        model.warm_up()
    # a model may fail in any way: say it in one line, and let the supervisor back off
    except Exception as error:  # noqa: BLE001
        log.get().error(
            "model_unusable", reason=str(error), exc_info=not isinstance(error, FarmError)
        )
        return ExitCode.MODEL
    load_s = time.monotonic() - started_s
    computer = Computer(model, adapter)
    golden = computer.check(welcome.golden)
    if by_hand:
        log.get().info("worker_joins", farm=control_endpoint, model=model.version)
    reader.ready(Loaded(model.version, model.content_hash, load_s, golden))
    while (work := reader.inbox.get()) is not None:
        worker_id, jobs = work
        reader.post(computer.run(jobs, worker_id))
    reader.join(JOIN_TIMEOUT_S)
    if by_hand:
        log.get().info("worker_left", farm=control_endpoint)
    return ExitCode.FAILURE if reader.failed else ExitCode.OK
