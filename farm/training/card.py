"""The model card that is written beside new weights: what they are, made of what, how good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from farm.training.evaluate import QUANTITIES, Score

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from farm.models.package import Manifest

_USE = """\
Estimates, from the position, torque and thrust of one drilled hole, where the torque begins to rise
at the entry and at the metal, and to fall at the exit, in mm of |position|; for each a standard
deviation; and a quality, its own probability that all of that is within 0.5 mm. Trained for stacks
of one to three layers, drilled with feeds of 0.1 to 7 mm/s at 45 to 210 samples a second. It does
not look at stop codes or no-load values, and at step numbers only to see where they change.
"""


def write_card(manifest: Manifest, scores: Sequence[Score]) -> str:
    """The card as Markdown."""
    recorded = manifest.training.get("recorded_holes", 0)
    source = (
        f"simulated holes and {recorded} recorded ones" if recorded else "simulated holes alone"
    )
    lines = [
        f"# {manifest.name}", "", _USE,
        f"Licence: {manifest.licence}. Made {manifest.made}, from {source}.", "",
        "## Training", "",
        *(f"* {k}: {v}" for k, v in sorted(manifest.training.items()) if v not in ("", None)), "",
        "## Errors", "",
        "Absolute errors in mm on simulated test holes, median / 95 %, and the share of keypoints",
        "within the 68 % and 95 % intervals:", "",
        *score_table(scores),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def score_table(scores: Sequence[Score]) -> list[str]:
    """Scores as the lines of a Markdown table."""
    head = ["family", "model", "holes", *QUANTITIES, "68 %", "95 %", "wrong, confident", "refused"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(cells(score)) + " |" for score in scores]


def cells(score: Score) -> list[str]:
    """One row of such a table."""
    pairs = [
        "-" if np.isnan(median) else f"{median:.3f} / {p95:.3f}"
        for median, p95 in zip(score.median_mm, score.p95_mm, strict=True)
    ]
    shares = ["-" if np.isnan(share) else f"{share:.1%}" for share in score.coverage]
    confident = f"{score.wrong_with_confidence:.2%}"
    return [
        score.family, score.model, str(score.holes), *pairs, *shares, confident, str(score.refused)
    ]  # fmt: skip


def metrics(scores: Sequence[Score]) -> dict[str, Any]:
    """The scores as the manifest keeps them: by family, without what there is none of."""
    return {score.family: _metrics(score) for score in scores}


def _metrics(score: Score) -> dict[str, Any]:
    found: dict[str, Any] = {"holes": score.holes}
    for quantity, *pair in zip(QUANTITIES, score.median_mm, score.p95_mm, strict=True):
        if np.isfinite(pair).all():
            found[f"{quantity}_mm"] = [round(float(value), 4) for value in pair]
    if np.isfinite(score.coverage).all():  # else the model tells no sigma
        found["coverage"] = [round(float(share), 4) for share in score.coverage]
    return found | {
        "wrong_with_confidence": round(score.wrong_with_confidence, 5),
        "wrong": round(score.wrong, 5),
        "refused": score.refused,
        "bias_mm": _by_quantity(score.bias_mm),
        "spread_mm": _by_quantity(score.spread_mm),
    }


def _by_quantity(values: Iterable[float]) -> dict[str, float]:
    pairs = zip(QUANTITIES, values, strict=True)
    return {name: round(float(value), 4) for name, value in pairs if np.isfinite(value)}
