"""The model: it loads here, answers a hole whose truth is known, and is quick enough."""

from __future__ import annotations

import math
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

from farm import wire
from farm.adapter import Status
from farm.doctor.finding import Finding, fail, ok, warn
from farm.errors import FarmError
from farm.simulation.archive import truth_of
from farm.simulation.drilled import SAMPLE_RECIPES, SAMPLES_SEED, drill
from farm.worker.compute import Computer
from farm.worker.equipment import Equipment, equip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farm.config import Config
    from farm.doctor.patient import Patient
    from farm.simulation.drilled import DrilledHole

DRILLING: Final = "farm.drilling.adapter:OpcUaAdapter"
OURS: Final = ("", "depthnet", "rule")
HOLE: Final = 2  # of samples/, with all three messages
OFF_MM: Final = 0.5
"""How far a keypoint may be from the truth: what `Quality` promises. Ours are within a tenth."""
ROUNDS: Final = 20
SLOW_SHARE: Final = 0.2  # of a limit, from which a time counts as near to it


def examine(patient: Patient) -> Iterator[Finding]:
    """See the module."""
    config = patient.config
    try:
        equipment = equip(config)
    except FarmError as error:
        yield fail("model.loading", str(error), "no worker would come up: do as it says")
        return
    # a model of the user's may raise anything
    except Exception as error:  # noqa: BLE001
        yield fail(
            "model.loading",
            f"the model or the adapter can't be loaded: {type(error).__name__}: {error}",
            "correct its class, or `model`, `model_settings` and `traffic.adapter`",
        )
        return
    yield _loading(equipment)
    if config.traffic.adapter != DRILLING:
        yield ok(
            "model.golden_hole",
            f"it is warm; the doctor knows no sample of what {config.traffic.adapter} reads",
        )
        return
    yield from _golden(equipment)


def _loading(equipment: Equipment) -> Finding:
    model, limit_s = equipment.model, equipment.config.workers.ready_timeout_s
    told = f"{model.version} ({model.content_hash:.16}) is loaded in {equipment.load_s:.1f} s"
    if equipment.load_s > limit_s / 2:
        return warn(
            "model.loading",
            f"{told}, and a worker that takes more than {limit_s:g} is killed",
            "raise workers.ready_timeout_s",
        )
    return ok("model.loading", told)


def _golden(equipment: Equipment) -> Iterator[Finding]:
    drilled = drill(SAMPLE_RECIPES[HOLE - 1], seed=SAMPLES_SEED, number=HOLE)
    computer = Computer(equipment.model, equipment.adapter)
    parts = _parts(drilled)
    answer = computer.check(parts)
    yield judge(equipment.config, answer, truth_of(drilled.truth))
    if answer["status"] == Status.FAILED.value:
        return
    took_s = []
    job = wire.Job(0, "doctor", "", 1, parts)
    for _ in range(ROUNDS):
        started_s = time.perf_counter()
        computer.run([job], 0)
        took_s.append(time.perf_counter() - started_s)
        if sum(took_s) > 5.0:  # a slow one was seen well enough
            break
    yield _quickness(statistics.median(took_s), equipment.config.dispatch.job_timeout_s)


def _parts(drilled: DrilledHole) -> dict[str, bytes]:
    messages = drilled.messages
    parts = {"result": messages.result, "trace": messages.trace}
    return parts | ({} if messages.heads is None else {"heads": messages.heads})


def judge(config: Config, answer: dict[str, Any], truth_mm: tuple[float, float, float]) -> Finding:
    """What is to be thought of the answer to the sample hole.

    Args:
        config: in force.
        answer: status, value and reason as `Computer.check` gives them.
        truth_mm: entry, transition and exit of the hole.
    """
    check = "model.golden_hole"
    if answer["status"] == Status.FAILED.value:
        return fail(
            check,
            f"it fails on a good hole: {answer['reason']}",
            "correct mqtt.data_ids if your gateway names its fields otherwise than the sample does"
            " (samples/), else the model",
        )
    # a model of one's own was made for other holes, and may be right to say no to this one
    is_ours = (
        config.model in OURS
        and config.mqtt.processing.models_dir is None
        and not config.model_settings.get("weights")
    )
    blame = fail if is_ours else warn
    cure = (
        "`farm models verify`, then `farm models bench --calibrate`: this machine computes wrongly"
        if is_ours
        else "see how it does on your own holes: `farm evaluate --data DIR`"
    )
    if answer["status"] == Status.INSUFFICIENT.value:
        return blame(check, f"it has no answer to a good hole: {answer['reason']}", cure)
    value = answer["value"]
    found = value.get("keypoints_mm") if isinstance(value, dict) else None
    if not isinstance(found, list) or len(found) != len(truth_mm):
        return warn(check, f"its answer is none of a depth model: {value!r:.60}", cure)
    if not all(map(math.isfinite, found)):
        return blame(check, f"its answer to a known hole is no number: {found}", cure)
    off_mm = max(abs(a - b) for a, b in zip(found, truth_mm, strict=True))
    if off_mm > OFF_MM:
        return blame(check, f"a keypoint of a known hole is off by {off_mm:.2f} mm", cure)
    return ok(check, f"a known hole is answered, off by {off_mm:.3f} mm at most")


def _quickness(took_s: float, limit_s: float) -> Finding:
    told = f"a hole takes {took_s * 1000:.1f} ms on one core"
    if took_s > limit_s * SLOW_SHARE:
        return warn(
            "model.speed",
            f"{told}, and a worker that takes more than {limit_s:g} s is killed",
            "raise dispatch.job_timeout_s, or see `farm models bench` for a faster runtime",
        )
    return ok("model.speed", told)
