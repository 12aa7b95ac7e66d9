"""How good models are on holes with known keypoints, by family of programs: numbers, no drawing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from farm.models.model import Insufficient, Model
from farm.training.programs import FAMILIES
from farm.training.recorded import KEYPOINTS, LabelledHole, from_simulated
from farm.training.simulator import simulate_batch, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from farm.drilling.hole import Hole

    Array = NDArray[np.float64]

TEST_SEED: Final = 20_250_601
"""Of the simulated test holes. `farm train` refuses it as a training seed."""

ALL: Final = "all"
QUANTITIES: Final = (*KEYPOINTS, "depth")

HIGH_QUALITY: Final = 0.9
"""From here on an answer counts as given with confidence."""

WRONG_MM: Final = 1.0
"""An answer farther off than this is wrong, whatever it says of itself."""

_INTERVALS: Final = ((0.68, 1.0), (0.95, 1.96))  # of a normal distribution, in sd
_BATCH: Final = 32
_SD_OF_MAD: Final = 1.4826  # of a normal distribution, in its median absolute deviations


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one model said of one hole, against the truth.

    Attributes:
        hole: the hole.
        answer: the model's keypoints, or its reason.
        error_mm: (4,) answer minus truth of entry, transition, exit and the depth between entry and
            exit; NaN where either has none.
        sigma_mm: (3,) what the model said of itself; NaN where it said nothing.
        quality: the same; NaN where it said nothing.
        is_wrong: whether it gave depths of a hole that has none, or is off by WRONG_MM, or saw one
            layer for two or two for one.
        is_refused: whether a good hole got no answer.
    """

    hole: LabelledHole
    answer: Mapping[str, Any] | Insufficient
    error_mm: Array
    sigma_mm: Array
    quality: float
    is_wrong: bool
    is_refused: bool


@dataclass(frozen=True, slots=True)
class Score:
    """One model on one family.

    Attributes:
        model: its name.
        family: the family, or `ALL`.
        holes: how many there were.
        refused: good ones without an answer.
        wrong: share of all that are wrong.
        wrong_with_confidence: share of all that are wrong and of HIGH_QUALITY.
        median_mm: (4,) of the absolute errors of QUANTITIES; NaN where there are none.
        p95_mm: (4,) their 95th percentiles.
        bias_mm: (4,) medians of the signed errors.
        spread_mm: (4,) their standard deviations, as their median absolute deviations tell them.
        coverage: (2,) share of keypoints within the 68 % and 95 % intervals; NaN without sigma.
    """

    model: str
    family: str
    holes: int
    refused: int
    wrong: float
    wrong_with_confidence: float
    median_mm: Array
    p95_mm: Array
    bias_mm: Array
    spread_mm: Array
    coverage: Array


def simulated_holes(
    per_family: int, *, seed: int = TEST_SEED, faults: float = 1.0
) -> tuple[LabelledHole, ...]:
    """The same holes for everybody: so many of each family, bad ones among them."""
    found: list[LabelledHole] = []
    for family in range(len(FAMILIES)):
        # Of each its own: no family's holes hang on what was drawn for the others.
        rng = np.random.default_rng((seed, family))
        batch = simulate_batch([family] * per_family, rng, faults=faults)
        labelled = from_simulated(unpack(batch, rng))
        # Where a recording ends just past a keypoint, nobody could say whether there is one.
        unclear = np.asarray(batch.unclear.any(axis=1))
        found += [hole for row, hole in enumerate(labelled) if not unclear[row]]
    return tuple(found)


def judge(
    model: Model, holes: Sequence[LabelledHole], progress: Callable[[int], None] | None = None
) -> list[Verdict]:
    """What a model says of each hole."""
    verdicts = []
    for start in range(0, len(holes), _BATCH):
        part = holes[start : start + _BATCH]
        inputs: list[Hole] = [one.hole for one in part]
        verdicts += [_verdict(h, a) for h, a in zip(part, model.infer(inputs), strict=True)]
        if progress:
            progress(len(part))
    return verdicts


def _verdict(hole: LabelledHole, answer: Any) -> Verdict:
    truth = np.array(hole.keypoints_mm)
    found, sigma, quality = np.full(3, np.nan), np.full(3, np.nan), np.nan
    if not isinstance(answer, Insufficient):
        given = answer["keypoints_mm"]
        # A single layer has no transition.
        places = [0, 2] if len(given) == 2 else [0, 1, 2]
        found[places] = given
        sigma[places] = answer.get("sigma_mm", np.nan)
        quality = answer.get("quality", np.nan)
    error = found - truth
    error = np.append(error, error[2] - error[0])
    answered = not isinstance(answer, Insufficient)
    # Only where the truth is whole can it be said that a layer is missing or one too many.
    known = bool(np.isfinite(truth[[0, 2]]).all())
    layers = bool(np.isfinite(found[1]) != np.isfinite(truth[1])) and known
    far = bool(np.nanmax(np.abs(error[:3]), initial=0.0) > WRONG_MM)
    is_wrong = answered and (far or layers or not hole.usable)
    return Verdict(hole, answer, error, sigma, quality, is_wrong, hole.usable and not answered)


def score(name: str, verdicts: Sequence[Verdict]) -> list[Score]:
    """The scores of one model: each family, then all together."""
    families = dict.fromkeys(v.hole.family for v in verdicts)
    parts = [(f, [v for v in verdicts if v.hole.family == f]) for f in families]
    return [_score(name, family, part) for family, part in [*parts, (ALL, list(verdicts))]]


def _score(name: str, family: str, verdicts: Sequence[Verdict]) -> Score:
    signed = np.array([v.error_mm for v in verdicts])
    errors = np.abs(signed)
    wrong = np.array([v.is_wrong for v in verdicts])
    # A model that says nothing of its quality stands by all that it says.
    quality = np.nan_to_num([v.quality for v in verdicts], nan=1.0)
    scaled = errors[:, :3] / np.array([v.sigma_mm for v in verdicts])
    scaled = scaled[np.isfinite(scaled)]
    coverage = [np.mean(scaled <= z) if scaled.size else np.nan for _, z in _INTERVALS]
    return Score(
        model=name,
        family=family,
        holes=len(verdicts),
        refused=sum(v.is_refused for v in verdicts),
        wrong=float(wrong.mean()),
        wrong_with_confidence=float((wrong & (quality >= HIGH_QUALITY)).mean()),
        median_mm=np.array([_quantile(column, 0.5) for column in errors.T]),
        p95_mm=np.array([_quantile(column, 0.95) for column in errors.T]),
        bias_mm=np.array([_quantile(column, 0.5) for column in signed.T]),
        spread_mm=np.array([_spread(column) for column in signed.T]),
        coverage=np.array(coverage),
    )


def _quantile(values: Array, share: float) -> float:
    values = values[np.isfinite(values)]
    return float(np.quantile(values, share)) if values.size else float("nan")


def _spread(values: Array) -> float:
    """The standard deviation, robustly: a few that are far off don't make it larger."""
    return _SD_OF_MAD * _quantile(np.abs(values - _quantile(values, 0.5)), 0.5)
