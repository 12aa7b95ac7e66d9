"""One runtime in a process of its own: what it adds to memory, and how long it takes to be ready.

Run as ``python -m farm.training.runtime_child FOLDER RUNTIME DEVICE`` by
`farm.training.runtime_bench`; its last line of output is JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from farm.errors import FarmError
from farm.models.grid import BIN_MM, CELL_BINS, CHANNELS, N_BINS, N_CELLS, Grids
from farm.models.package import open_package
from farm.models.runtime import load_runtime


def main(folder: str, name: str, device: str) -> dict[str, float | str]:
    """Load a runtime and run it once.

    Returns:
        `load_s` until the first answer and `memory_bytes` resident more than before; or `reason`,
        why it is not to be had.
    """
    process = psutil.Process()
    grids = _any_grids()
    before_bytes, before_s = process.memory_info().rss, time.perf_counter()
    try:
        load_runtime(open_package(Path(folder)), name, device)(grids)
    except FarmError as error:
        return {"reason": str(error)}
    load_s = time.perf_counter() - before_s
    return {"load_s": load_s, "memory_bytes": process.memory_info().rss - before_bytes}


def _any_grids() -> Grids:
    """A batch of one made-up hole."""
    position = np.arange(N_CELLS, dtype=np.float32)[None] * np.float32(BIN_MM * CELL_BINS)
    return Grids(
        channels=np.zeros((1, CHANNELS, N_BINS), np.float32),
        position_mm=position,
        used=np.ones((1, N_CELLS), np.float32),
        origin_mm=np.zeros(1),
        bin_mm=np.full(1, BIN_MM),
    )


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:4])))  # noqa: T201 - its parent reads it
