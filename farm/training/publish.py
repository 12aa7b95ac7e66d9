"""From a trained network to a model that workers can hold: calibrated, scored, in a folder."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from farm.models.depthnet import DepthModel
from farm.models.onnx_export import can_export, export_onnx
from farm.models.package import CARD, INT8, ONNX, WEIGHTS, Manifest, Package, write_package
from farm.models.runtime import EXACT
from farm.models.weights import dump_network
from farm.training.calibrate import calibrate
from farm.training.card import metrics, write_card
from farm.training.evaluate import judge, score, simulated_holes
from farm.training.quantise import export_int8

if TYPE_CHECKING:
    from pathlib import Path

    from farm.models.network import DepthNet
    from farm.training.train import Trained


def publish(
    trained: Trained, folder: Path, *, name: str, test_holes: int,
    calibration_holes: int, notes: str = "",
) -> Package:  # fmt: skip
    """Write a trained network as a model; for ONNX Runtime too, where the `export` extra is there.

    Args:
        trained: the network, and how it was made.
        folder: where to.
        name: published with its answers as AlgoVersion.
        test_holes: of each family, to score it on.
        calibration_holes: to scale its sigmas on.
        notes: Markdown for the end of its card.
    """
    factors = calibrate(trained.net, holes=calibration_holes)
    manifest = Manifest(
        name=name,
        architecture=architecture(trained.net),
        sha256={},
        training=trained.told | {"sigma_factors": factors},
        made=datetime.now(UTC).date().isoformat(),
    )
    files = {WEIGHTS: dump_network(trained.net)}
    if can_export():
        files[ONNX] = export_onnx(trained.net)
        files[INT8] = export_int8(trained.net)
    write_package(folder, files, manifest)
    scores = score(name, judge(_exact(folder), simulated_holes(test_holes)))
    manifest = replace(manifest, metrics=metrics(scores))
    files[CARD] = (write_card(manifest, scores) + notes).encode()
    return write_package(folder, files, manifest)


def _exact(folder: Path) -> DepthModel:
    """What is scored: the network itself, not what is fastest on the machine it was trained on."""
    return DepthModel({"weights": str(folder), "runtime": EXACT})


def architecture(net: DepthNet) -> dict[str, Any]:
    """What the manifest says of the network."""
    return {"kind": "depthnet", "parameters": sum(p.numel() for p in net.parameters())}
