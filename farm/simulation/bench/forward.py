"""The limit of any design with this model: as many processes as cores, and nothing but the model.

    python -m farm.simulation.bench.forward

Each process reads the holes beforehand and infers batches of them on one thread; no message is sent
or read. `measure_forward` is the other end.
"""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from farm.config import Config
from farm.models.model import Insufficient
from farm.simulation.archive import read_archive
from farm.simulation.bench.child import Child, Parent, as_child
from farm.worker.equipment import equip

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BATCHES: Final = (1, 8, 32)
TRIAL_S: Final = 0.5  # of each size, to find the best
READY_TIMEOUT_S: Final = 120.0
GRACE_S: Final = 60.0  # one batch of a slow model


@dataclass(frozen=True, slots=True)
class Forward:
    """What the model alone does on all cores.

    Attributes:
        rate_hz: holes per second, of all processes together.
        batch: holes at a time, the best of `BATCHES`.
        cpu_ms_per_hole: CPU time of a hole.
        processes: how many there were.
        trials_hz: holes per second in short trials of each of `BATCHES`.
        refused: share of the holes for which the model has a reason and no answer.
    """

    rate_hz: float
    batch: int
    cpu_ms_per_hole: float
    processes: int
    trials_hz: dict[int, float] = field(default_factory=dict)
    refused: float | None = None


def measure_forward(
    settings: Mapping[str, Any], holes_dir: str, *, processes: int, duration_s: float
) -> Forward:
    """Measure the model that a configuration names.

    Args:
        settings: the configuration, by section.
        holes_dir: an archive of holes.
        processes: one for each core.
        duration_s: of the measurement, after the trials.

    Raises:
        FarmError: the model can't be used.
    """
    orders = {"settings": dict(settings), "holes_dir": holes_dir}
    with ExitStack() as stack:
        children = [
            stack.enter_context(Child("farm.simulation.bench.forward", orders))
            for _ in range(processes)
        ]
        refused = [float(child.wait("ready", READY_TIMEOUT_S)) for child in children]
        trials = [_together(children, batch, TRIAL_S) for batch in BATCHES]
        # by CPU time, which does not change when something else keeps a core busy
        best = min(trials, key=lambda trial: trial.cpu_ms_per_hole)
        found = _together(children, best.batch, duration_s)
        return replace(
            found, trials_hz={trial.batch: trial.rate_hz for trial in trials}, refused=refused[0]
        )


def _together(children: Sequence[Child], batch: int, duration_s: float) -> Forward:
    for child in children:
        child.tell(f"{batch} {duration_s}")
    told = [child.wait("done", duration_s + GRACE_S) for child in children]
    return Forward(
        rate_hz=sum(one["holes"] / one["wall_s"] for one in told),
        batch=batch,
        cpu_ms_per_hole=1000 * sum(one["cpu_s"] for one in told) / sum(o["holes"] for o in told),
        processes=len(children),
    )


def serve(parent: Parent) -> None:
    """Load, read, and infer as often as we are told to: a batch size and seconds."""
    config = Config.model_validate(parent.orders["settings"])
    equipment = equip(config)
    adapter, model = equipment.adapter, equipment.model
    holes = [
        adapter.read({"result": hole.messages.result, "trace": hole.messages.trace})
        for hole in read_archive(Path(parent.orders["holes_dir"]))
    ]
    refused = sum(isinstance(model.infer([hole])[0], Insufficient) for hole in holes)
    parent.say("ready", refused / len(holes))
    while word := parent.word():
        batch, duration_s = word.split()
        parent.say("done", _infer(model, holes, int(batch), float(duration_s)))


def _infer(model: Any, holes: Sequence[Any], batch: int, duration_s: float) -> dict[str, float]:
    # every hole in turn, and whole batches also at the end of the list
    endless = [holes[number % len(holes)] for number in range(len(holes) + batch)]
    done, at = 0, 0
    model.infer(endless[:batch])
    cpu_s, started_s = time.process_time(), time.monotonic()
    while (wall_s := time.monotonic() - started_s) < duration_s:
        model.infer(endless[at : at + batch])
        at = (at + batch) % len(holes)
        done += batch
    return {"holes": done, "wall_s": wall_s, "cpu_s": time.process_time() - cpu_s}


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    as_child(serve)
