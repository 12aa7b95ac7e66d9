"""The slots: a folder of black boxes, one for each incarnation of a local worker.

Owns the folder; what a slot holds is `farm.slot`'s. Boxes of a former life of the broker are
removed at the start: who still writes into one keeps it mapped, and gets a new one with its Hello.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.slot import read_slot

if TYPE_CHECKING:
    from pathlib import Path

    from farm.broker.roster import Worker

DIRECTORY_NAME = "slots"


class Slots:
    """See the module.

    Args:
        state_dir: the farm's; the folder is made in it.
    """

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir / DIRECTORY_NAME
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._remove_all()

    def path_of(self, worker: Worker) -> str:
        """Where a worker is to keep its box; "" for one of another host."""
        return str(self._directory / str(worker.worker_id)) if worker.local else ""

    def read(self, worker: Worker) -> frozenset[int] | None:
        """The jobs that a worker is computing, or was when it died; None where nobody can know."""
        if not worker.local:
            return None
        return read_slot(self._directory / str(worker.worker_id), worker.worker_id)

    def remove(self, worker: Worker) -> None:
        """The worker is gone and its box was read."""
        (self._directory / str(worker.worker_id)).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove every box."""
        self._remove_all()

    def _remove_all(self) -> None:
        for path in self._directory.iterdir():
            path.unlink(missing_ok=True)
