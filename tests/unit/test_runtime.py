"""The runtimes: all answer alike, within the loss that the docs give them."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from farm.errors import ModelError
from farm.models import ort
from farm.models.answer import EXISTS, TORQUE
from farm.models.depthnet import BUILT_IN
from farm.models.grid import Grids, resample
from farm.models.package import WEIGHTS, Manifest, open_package, write_package
from farm.models.runtime import file_of, load_runtime
from farm.models.staging import Staging, padded, sizes
from farm.training.programs import PROGRAMS
from farm.training.simulator import simulate_batch

pytestmark = pytest.mark.usefixtures("one_thread")

# Of the keypoints' positions in mm: median and largest difference from fp32, over 70 holes.
LOSS = {"frozen": (1e-4, 1e-3), "onnx": (1e-4, 1e-2), "bf16": (0.02, 1.0), "int8": (0.02, 1.0)}


@pytest.fixture(scope="module")
def grids():
    family = np.arange(70) % len(PROGRAMS)
    return resample(simulate_batch(family, np.random.default_rng(4), faults=0).traces)


@pytest.fixture(scope="module")
def package():
    return open_package(BUILT_IN)


@pytest.fixture(scope="module")
def expected(package, grids):
    return load_runtime(package, "eager", "cpu")(grids)


@pytest.mark.parametrize("name", LOSS)
def test_a_runtime_answers_as_the_network_does(name, package, grids, expected):
    # Prevents a runtime that is fast and wrong.
    found = load_runtime(package, name, "cpu")(grids)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    exists = expected[:, EXISTS] > 0.5
    off = np.abs(found - expected)[:, TORQUE][exists]
    median, largest = LOSS[name]
    assert np.median(off) <= median
    assert np.quantile(off, 0.98) <= largest
    assert ((found[:, EXISTS] > 0.5) == exists).mean() > 0.97


def test_int8_runs_without_torch():
    # Prevents an edge box with ONNX Runtime alone from needing PyTorch's gigabyte.
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from farm.models.registry import load_model\n"
        "model = load_model('', 4, {'runtime': 'int8'})\n"
        "model.warm_up()\n"
        "print(model.content_hash)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == open_package(BUILT_IN).short_hash("network.int8.onnx")


def test_int8_without_onnxruntime_says_what_to_install(monkeypatch, package):
    # Prevents a bare ImportError in a worker's log.
    monkeypatch.setattr(ort, "has_onnxruntime", lambda: False)
    with pytest.raises(ModelError, match="pip install onnxruntime"):
        load_runtime(package, "int8", "cpu")


@pytest.mark.parametrize("b", [1, 3, 16, 70])
def test_staged_batches_are_the_same_holes(package, grids, expected, b):
    # Prevents holes that are mixed up, or cut, on their way to a GPU; and an answer that depends on
    # what the batch was filled up with. The CPU plays the device.
    some = Grids(
        channels=grids.channels[:b],
        position_mm=grids.position_mm[:b],
        used=grids.used[:b],
        origin_mm=grids.origin_mm[:b],
        bin_mm=grids.bin_mm[:b],
    )
    runtime = load_runtime(package, "eager", "cpu")
    staging = Staging(torch, torch.device("cpu"))
    staging.to_device((np.full_like(grids.channels, np.nan), grids.position_mm, grids.used))
    there = staging.to_device((some.channels, some.position_mm, some.used))
    assert {len(tensor) for tensor in there} == {padded(b)}
    np.testing.assert_array_equal(there[0][:b].numpy(), some.channels)
    assert not there[0][b:].any()
    runtime._staging = staging
    found = runtime(some)
    assert len(found) == b
    np.testing.assert_allclose(found, expected[:b], atol=2e-3, rtol=2e-3)


def test_all_sizes_that_a_gpu_runs_are_warmed_up():
    # Prevents a first batch of a new size that is slow in the midst of a shift.
    assert sizes(1) == [1]
    assert sizes(256) == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert sizes(100) == [1, 2, 4, 8, 16, 32, 64, 128]
    assert {padded(b) for b in range(1, 101)} == set(sizes(100))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told(package):
    # Prevents a silent fall back to a CPU that is ten times slower.
    with pytest.raises(ModelError, match="device cuda"):
        load_runtime(package, "eager", "cuda")
    assert load_runtime(package, "eager", "auto").device.type == "cpu"


def test_the_shipped_onnx_is_the_shipped_network(package, grids, expected):
    # Prevents an ONNX file that was left behind when the weights were trained anew.
    found = load_runtime(package, "onnx", "cpu")(grids)
    np.testing.assert_allclose(found, expected, atol=2e-3, rtol=2e-3)


def test_a_package_without_onnx_is_exported(package, grids, expected, tmp_path):
    # Prevents `runtime: onnx` from being refused with a model of before.
    older = write_package(
        tmp_path, {WEIGHTS: package.read(WEIGHTS)}, Manifest("old", {"kind": "depthnet"}, {})
    )
    assert file_of(older, "onnx") == WEIGHTS
    found = load_runtime(older, "onnx", "cpu")(grids)
    np.testing.assert_allclose(found, expected, atol=2e-3, rtol=2e-3)


def test_nothing_is_sent_to_the_makers_of_onnx_runtime():
    # Prevents a plant's machine that reports its use: since 1.29 that is the library's default.
    code = (
        "import os; from farm.models.ort import import_onnxruntime\n"
        "import_onnxruntime(); print(os.environ['ORT_DISABLE_TELEMETRY'])\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment["OMP_NUM_THREADS"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == ["1", "1"]
