"""What holes look like in numbers: to tell how far simulated ones are from real ones.

Every statistic is taken between known keypoints, the same way from both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from farm.drilling.hole import Hole
    from farm.training.recorded import LabelledHole

    Array = NDArray[np.float64]

STATISTICS: Final = (
    "samples",
    "duration s",
    "air torque A",
    "air torque noise A",
    "CFRP torque A",
    "CFRP torque noise A",
    "CFRP thrust A",
    "metal torque A",
    "metal torque noise A",
    "metal torque slow sd A",
    "metal thrust A",
    "metal thrust noise A",
    "entry ramp to half mm",
    "transition ramp to half mm",
    "exit fall to half mm",
    "after exit torque A",
    "noise below 5 Hz share",
)
"""What is compared, in the order of the plots."""

_SETTLED_MM = 2.0  # past an onset, a plateau has been reached
_SHORT_MM = 0.4  # before the next onset, nothing of it is felt yet
_SLOW_HZ = 5.0


def statistics(hole: LabelledHole) -> dict[str, float]:
    """The statistics of one hole; what can't be told is left out."""
    entry, transition, exit_ = hole.keypoints_mm
    samples = hole.hole
    position = np.maximum.accumulate(samples.position_mm.astype(np.float64))
    found = {"samples": float(len(samples)), "duration s": len(samples) / samples.sample_rate_hz}
    air = (position > 1.0) & (position < entry - 1.0)
    met = transition if np.isfinite(transition) else exit_
    first = (position > entry + _SETTLED_MM) & (position < met - 2 * _SHORT_MM)
    metal = (position > transition + _SETTLED_MM) & (position < exit_ - _SHORT_MM)
    after = (position > exit_ + 4.0) & (position < position[-1] - 3.0)
    found |= _levels(samples, air=air, first=first, metal=metal, after=after)
    last = metal if np.isfinite(transition) else first
    for name, onset, plateau in (
        ("entry ramp to half mm", entry, first),
        ("transition ramp to half mm", transition, metal),
    ):
        found[name] = _rise_mm(position, samples.torque_a, onset, plateau)
    found["exit fall to half mm"] = _fall_mm(position, samples.torque_a, exit_, last)
    found["noise below 5 Hz share"] = _slow_share(samples, last)
    return {name: value for name, value in found.items() if np.isfinite(value)}


def by_family(holes: Iterable[LabelledHole]) -> dict[str, dict[str, list[float]]]:
    """The statistics of many holes: family to statistic to values."""
    found: dict[str, dict[str, list[float]]] = {}
    for hole in holes:
        if np.isfinite(hole.keypoints_mm[0]) and np.isfinite(hole.keypoints_mm[2]):
            of_family = found.setdefault(hole.family, {})
            for name, value in statistics(hole).items():
                of_family.setdefault(name, []).append(value)
    return found


def _levels(
    hole: Hole, *, air: NDArray[np.bool_], first: NDArray[np.bool_], metal: NDArray[np.bool_],
    after: NDArray[np.bool_],
) -> dict[str, float]:  # fmt: skip
    """Medians and sample-to-sample noise of the plateaus."""
    torque, thrust = hole.torque_a.astype(np.float64), hole.thrust_a.astype(np.float64)
    return {
        "air torque A": _median(torque[air]),
        "air torque noise A": _noise(torque[air]),
        "CFRP torque A": _median(torque[first]),
        "CFRP torque noise A": _noise(torque[first]),
        "CFRP thrust A": _median(thrust[first]),
        "metal torque A": _median(torque[metal]),
        "metal torque noise A": _noise(torque[metal]),
        "metal torque slow sd A": _slow_sd(torque[metal]),
        "metal thrust A": _median(thrust[metal]),
        "metal thrust noise A": _noise(thrust[metal]),
        "after exit torque A": _median(torque[after]),
    }


def _median(values: Array) -> float:
    return float(np.median(values)) if values.size > 10 else float("nan")


def _noise(values: Array) -> float:
    """Sample-to-sample standard deviation, which slow changes leave alone."""
    return float(np.std(np.diff(values)) / np.sqrt(2)) if values.size > 20 else float("nan")


def _slow_sd(values: Array) -> float:
    """What is left of the variation once it is averaged over a fifth of a second."""
    if values.size < 60:
        return float("nan")
    blocks = values[: values.size // 20 * 20].reshape(-1, 20).mean(1)
    return float(np.std(blocks))


def _rise_mm(
    position: Array, torque: NDArray[np.float32], onset_mm: float, plateau: NDArray[np.bool_]
) -> float:
    """From an onset to half of the way to its plateau, in mm."""
    before = torque[(position > onset_mm - 0.8) & (position < onset_mm - 0.2)]
    if before.size < 3 or plateau.sum() < 10:
        return float("nan")
    low, high = float(np.median(before)), float(np.median(torque[plateau]))
    past = (position > onset_mm) & (torque > 0.5 * (low + high))
    return float(position[past.argmax()] - onset_mm) if past.any() else float("nan")


def _fall_mm(
    position: Array, torque: NDArray[np.float32], exit_mm: float, plateau: NDArray[np.bool_]
) -> float:
    """From the exit to where half of the last plateau's torque is gone, in mm."""
    if plateau.sum() < 10:
        return float("nan")
    half = 0.5 * float(np.median(torque[plateau]))
    past = (position > exit_mm) & (torque < half)
    return float(position[past.argmax()] - exit_mm) if past.any() else float("nan")


def _slow_share(hole: Hole, plateau: NDArray[np.bool_]) -> float:
    """Share of the torque's power that lies below 5 Hz on its last plateau."""
    torque = hole.torque_a[plateau].astype(np.float64)
    if torque.size < 64:
        return float("nan")
    line = np.polyval(np.polyfit(np.arange(torque.size), torque, 1), np.arange(torque.size))
    power = np.abs(np.fft.rfft((torque - line) * np.hanning(torque.size))) ** 2
    frequency_hz = np.fft.rfftfreq(torque.size, 1 / hole.sample_rate_hz)
    total = power.sum()
    return float(power[frequency_hz < _SLOW_HZ].sum() / total) if total > 0 else float("nan")
