"""What the doctor says of GPUs, without one: the driver's words are played."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from farm.config import Config
from farm.doctor import gpus
from farm.doctor.finding import Verdict
from farm.gpus import Gpu, Plan

if TYPE_CHECKING:
    from farm.doctor.finding import Finding

OK, WARN, FAIL = Verdict.OK, Verdict.WARN, Verdict.FAIL
TWO = (Gpu(0, "GPU-aa11", "NVIDIA A2"), Gpu(1, "GPU-bb22", "NVIDIA A2"))
ONE_EACH = Plan({"gpu0": TWO[0], "gpu1": TWO[1]}, hides=True)
NOBODY = Plan({})


@pytest.mark.parametrize(
    ("finding", "verdict", "words"),
    [
        (gpus.judge_found((), (), NOBODY, wants=False), OK, "none is wanted"),
        (gpus.judge_found((), (), NOBODY, wants=True), FAIL, "there is no GPU"),
        (gpus.judge_found((), (), ONE_EACH, wants=True), WARN, "2 workers are to have one"),
        (gpus.judge_found(TWO, TWO, ONE_EACH, wants=True), OK, "gpu0 on cuda:0, gpu1 on cuda:1"),
        (
            gpus.judge_found(TWO, TWO[:1], NOBODY, wants=False),
            OK,
            "hides 1; workers with one: none",
        ),
        (gpus.judge_found(TWO, (), NOBODY, wants=True), FAIL, "hides all of them"),
        (gpus.judge_found(TWO, (), NOBODY, wants=False), OK, "hides all of them"),
        (gpus.judge_torch("12.8", wants=True), OK, "CUDA 12.8"),
        (gpus.judge_torch("", wants=True), FAIL, "without CUDA"),
        (gpus.judge_torch("", wants=False), WARN, "without CUDA"),
        (gpus.judge_driver(0, "12.8"), WARN, "does not tell"),
        (gpus.judge_driver(470, "12.8"), FAIL, "needs 525"),
        (gpus.judge_driver(525, "12.8"), OK, "525"),
        (gpus.judge_driver(570, "13.0"), FAIL, "needs 580"),
        (gpus.judge_driver(470, ""), OK, "470"),
    ],
)
def test_each_finding_and_its_cure(finding: Finding, verdict: Verdict, words: str) -> None:
    """A machine whose GPU is not used, of which nobody is told; an alarm where none is wanted."""
    assert finding.verdict is verdict
    assert words in finding.said
    assert bool(finding.cure) is (verdict is not OK)


@pytest.mark.parametrize(
    ("free_mb", "per_gpu", "verdicts"),
    [
        (None, 1, [WARN]),
        ({0: (16000, 15000), 1: (16000, 15000)}, 1, [OK, OK]),
        ({0: (16000, 1000), 1: (16000, 15000)}, 1, [WARN, OK]),
        ({0: (16000, 2000), 1: (16000, 2000)}, 2, [WARN, WARN]),
        ({}, 1, []),
    ],
)
def test_free_memory(
    free_mb: dict[int, tuple[int, int]] | None, per_gpu: int, verdicts: list[Verdict]
) -> None:
    """A worker that ends again and again, since another program has the GPU's memory."""
    config = Config.model_validate({"workers": {"per_gpu": per_gpu}})
    found = list(gpus.judge_memory(free_mb, config, ONE_EACH))
    assert [one.verdict for one in found] == verdicts


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15\n",
            535,
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n",
            570,
        ),
        ("", 0),
        ("NVRM version: something else\n", 0),
    ],
)
def test_the_drivers_version(text: str, version: int) -> None:
    """64, of x86_64, taken for the version of an old driver."""
    assert gpus.version_of(text) == version


@pytest.mark.parametrize(
    ("text", "memory"),
    [
        ("0, 16376, 15906\n1, 16376, 200\n", {0: (16376, 15906), 1: (16376, 200)}),
        ("", {}),
        ("0, [N/A], [N/A]\n", None),
        ("NVIDIA-SMI has failed\n", None),
    ],
)
def test_what_nvidia_smi_writes(text: str, memory: dict[int, tuple[int, int]] | None) -> None:
    """An examination that breaks where the tool says something else than numbers."""
    assert gpus.memory_of(text) == memory
