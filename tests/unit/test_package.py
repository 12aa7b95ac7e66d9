"""Models as folders: what the manifest vouches for is what is loaded, and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import save

from farm.errors import ModelError
from farm.models.depthnet import BUILT_IN, DepthModel
from farm.models.package import (
    CARD,
    INT8,
    MANIFEST,
    ONNX,
    WEIGHTS,
    Manifest,
    open_package,
    write_package,
)


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(BUILT_IN, tmp_path / "model")


def change(path, **fields):
    told = json.loads(path.read_text()) | fields
    path.write_text(json.dumps(told))


def test_the_shipped_files_are_those_of_the_manifest():
    # Prevents weights that were replaced without anybody saying so.
    package = open_package(BUILT_IN)
    assert set(package.verify()) == {WEIGHTS, INT8, ONNX, CARD}
    for name in (WEIGHTS, INT8, ONNX):
        digest = hashlib.sha256((BUILT_IN / name).read_bytes()).hexdigest()
        assert package.manifest.sha256[name] == digest
    assert package.manifest.licence == "Apache-2.0"
    assert package.manifest.training["holes"] > 0
    assert package.manifest.metrics["all"]["holes"] > 0


def test_the_shipped_weights_are_small():
    # Prevents a repository that grows with every training.
    assert sum((BUILT_IN / name).stat().st_size for name in (WEIGHTS, INT8, ONNX)) < 2_500_000


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda p: p[: len(p) // 2],
        lambda _: b"not a weights file at all" * 40,
        lambda p: p[:400_000] + bytes([p[400_000] ^ 1]) + p[400_001:],
    ],
    ids=["empty", "cut", "other", "one bit"],
)
def test_changed_weights_are_refused_with_a_cure(copy, spoil):
    # Prevents a worker that comes up with garbage, or with a network that nobody vouched for.
    path = copy / WEIGHTS
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ModelError, match=r"not what manifest\.json vouches for.*farm train"):
        DepthModel({"weights": str(copy), "runtime": "frozen"})


@pytest.mark.parametrize("content", [b"junk", b"", b"\x08" + b"\0" * 7 + b'{"a":1}x'])
def test_weights_that_are_vouched_for_but_no_safetensors_are_refused(tmp_path, content):
    # Prevents torch's or a pickle's own way of reading a file that isn't one.
    write_package(tmp_path, {WEIGHTS: content}, Manifest("x", {"kind": "depthnet"}, {}))
    with pytest.raises(ModelError, match="corrupt"):
        DepthModel({"weights": str(tmp_path), "runtime": "frozen"})


def test_weights_of_another_network_are_refused(tmp_path):
    # Prevents half-loaded networks after an upgrade.
    payload = save({"stem.weight": torch.zeros(3)})
    write_package(tmp_path, {WEIGHTS: payload}, Manifest("x", {"kind": "depthnet"}, {}))
    with pytest.raises(ModelError, match="do not fit"):
        DepthModel({"weights": str(tmp_path), "runtime": "frozen"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no manifest"),
        ("[]", "no manifest"),
        ('{"name": "x"}', "no manifest"),
        ('{"name": "x", "architecture": {}, "sha256": {}, "surprise": 1}', "no manifest"),
        ('{"name": "x", "architecture": {}, "sha256": {"../../etc/passwd": "%s"}}' % ("0" * 64),
         "can't be"),
        ('{"name": "x", "architecture": {}, "sha256": {"w": "short"}}', "can't be"),
        ('{"name": "x", "architecture": {}, "sha256": [1]}', "no manifest"),
        ('{"name": "x", "architecture": {}, "sha256": {}, "format": 99}', "update farm"),
        ('{"format": 2, "news": 1}', "update farm"),
        ('{"name": "x", "architecture": [1], "sha256": {}}', "architecture"),
        ('{"name": "x", "architecture": {}, "sha256": {}, "made": 5}', "made"),
        ('{"name": "x", "architecture": {}, "sha256": {}, "training": "x"}', "training"),
        ("[" * 100_000, "no manifest"),
    ],
)  # fmt: skip
def test_a_manifest_that_cannot_be_used_says_why(tmp_path, text, words):
    # Prevents a traceback, a path out of the folder, and a format that is half understood.
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ModelError, match=words):
        open_package(tmp_path)


def test_a_missing_folder_and_a_missing_file_are_named(copy, tmp_path):
    # Prevents an error that doesn't tell where to look.
    with pytest.raises(ModelError, match="none"):
        open_package(tmp_path / "none")
    (copy / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=WEIGHTS):
        open_package(copy).verify()


def test_a_package_is_written_whole(tmp_path):
    # Prevents a manifest beside files of a run that was stopped.
    package = write_package(tmp_path, {"a": b"1", "b": b"2"}, Manifest("m", {}, {}))
    assert package.verify() == ["a", "b"]
    assert package.read("a") == b"1"
    assert package.short_hash("b") == hashlib.sha256(b"2").hexdigest()[:16]
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(ModelError, match="has no c"):
        package.read("c")
