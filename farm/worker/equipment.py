"""The `Equipment`: the adapter and the warm model that a worker computes with; how it is loaded.

Shared by workers that load it themselves and by the nursery, which loads it for those forked from
it. Knows no sockets.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.adapter import load_adapter
from farm.config.show import model_view
from farm.models.registry import load_model
from farm.models.runtime import THREAD_VARIABLES

if TYPE_CHECKING:
    from farm.adapter import Adapter
    from farm.config import Config
    from farm.models.model import Model


@dataclass(frozen=True, slots=True)
class Equipment:
    """Loaded and warm, with the configuration that it was loaded for."""

    config: Config
    adapter: Adapter
    model: Model
    load_s: float

    def fits(self, config: Config) -> bool:
        """Whether a worker with this configuration would have loaded just the same."""
        return model_view(self.config) == model_view(config)


def limit_threads(threads: int) -> None:
    """One thread per worker: N workers with all-core OpenMP is slower than one. Before torch!"""
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, str(threads))
    # Since 1.29 ONNX Runtime starts a thread that sends usage data to its maker, unless it is told
    # not to before it is imported. A factory's worker sends nothing, and a thread is never forked.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def equip(config: Config, batch_jobs: int = 0) -> Equipment:
    """Load the adapter and the model of a configuration, and warm them up.

    Args:
        config: of the worker.
        batch_jobs: the most of one batch of a worker that gathers; 0: it does not.

    Raises:
        Exception: whatever the model or the adapter raises; FarmError where we know the cause.
    """
    started_s = time.monotonic()
    limit_threads(config.workers.threads)
    # What is imported and loaded now stays: to look through it for garbage, again and again while
    # it grows, takes a tenth of the time.
    gc.disable()
    try:
        adapter = load_adapter(config)
        processing = config.mqtt.processing
        model = load_model(
            config.model, processing.model_id, config.model_settings, processing.models_dir
        )
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(config.workers.threads)
        model.warm_up()
        if batch_jobs and (at_sizes := getattr(model, "warm_up_batches", None)):
            at_sizes(batch_jobs)
    finally:
        gc.enable()
    # Once more, and never again: a collection would touch each object, so that a forked worker
    # would need a copy of its own of every page.
    gc.collect()
    gc.freeze()
    return Equipment(config, adapter, model, time.monotonic() - started_s)
