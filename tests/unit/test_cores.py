"""How many cores we may use: where a container has fewer than the machine, those."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from farm.cores import cores

if TYPE_CHECKING:
    from pathlib import Path

MANY = 64


@pytest.fixture(autouse=True)
def _many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(MANY)))


class Kernel:
    """What the kernel tells of a process in cgroups: `proc` is its folder in /proc."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.proc.mkdir()
        self._cgroups = folder / "my cgroups"  # a space: the kernel writes it as \040
        (self.proc / "mountinfo").write_text("23 0 8:1 / / rw,relatime - ext4 /dev/sda rw\n")
        self.says("")

    def says(self, cgroup: str) -> None:
        (self.proc / "cgroup").write_text(cgroup)

    def mount(self, name: str, kind: str, options: str, *, root: str = "/") -> Path:
        folder = self._cgroups / name
        folder.mkdir(parents=True)
        shown = str(folder).replace(" ", r"\040")
        with (self.proc / "mountinfo").open("a") as told:
            told.write(f"31 23 0:28 {root} {shown} rw,nosuid shared:9 - {kind} cgroup {options}\n")
        return folder


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def limit(folder: Path, quota: int | str, period: int = 100_000, *, is_v2: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if is_v2:
        (folder / "cpu.max").write_text(f"{quota} {period}\n")
    else:
        (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (folder / "cpu.cfs_period_us").write_text(f"{period}\n")


@pytest.mark.parametrize(
    ("quota", "period", "wanted"),
    [
        (200_000, 100_000, 2),
        (150_000, 100_000, 2),  # rounded up
        (10_000, 100_000, 1),
        (100_000, 25_000, 4),
        (100_000_000, 100_000, MANY),  # more than the affinity
        ("max", 100_000, MANY),
    ],
)
@pytest.mark.parametrize("is_v2", [True, False], ids=["v2", "v1"])
def test_a_containers_quota_counts(
    kernel: Kernel, quota: int | str, period: int, wanted: int, *, is_v2: bool
) -> None:
    """As many workers as a machine has cores, in a container that is given two of them."""
    if is_v2:
        root = kernel.mount("v2", "cgroup2", "rw,nsdelegate")
        kernel.says("0::/\n")
    else:
        root = kernel.mount("cpu", "cgroup", "rw,cpu,cpuacct")
        kernel.says("4:memory:/elsewhere\n3:cpu,cpuacct:/\n0::/\n")
        quota = -1 if quota == "max" else quota
    limit(root, quota, period, is_v2=is_v2)
    assert cores(kernel.proc) == wanted


def test_fewer_by_affinity_than_by_quota(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cores that taskset has taken away."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    limit(kernel.mount("v2", "cgroup2", "rw"), 800_000)
    kernel.says("0::/\n")
    assert cores(kernel.proc) == 1


@pytest.mark.parametrize("tightest", ["", "machine.slice", "machine.slice/farm"])
def test_the_tightest_limit_on_the_way_up_counts(kernel: Kernel, tightest: str) -> None:
    """A quota of the slice around the service that nobody looks at."""
    root = kernel.mount("v2", "cgroup2", "rw")
    kernel.says("0::/machine.slice/farm\n")
    for group in ("", "machine.slice", "machine.slice/farm"):
        limit(root / group, 300_000 if group == tightest else 900_000)
    limit(root / "machine.slice" / "other", 100_000)  # is not ours
    limit(root.parent, 100_000)  # is no cgroup
    assert cores(kernel.proc) == 3


def test_a_cgroup_that_is_mounted_in_part(kernel: Kernel) -> None:
    """Docker with v1: the path is told as from outside, and the folder begins at the container."""
    root = kernel.mount("cpu", "cgroup", "rw,cpu", root="/docker/c0ffee")
    kernel.says("3:cpu:/docker/c0ffee/inner\n")
    limit(root, 700_000, is_v2=False)
    limit(root / "inner", 500_000, is_v2=False)
    assert cores(kernel.proc) == 5


@pytest.mark.parametrize("path", ["/../../elsewhere", "/host/elsewhere"])
def test_a_path_from_outside_our_namespace(kernel: Kernel, path: str) -> None:
    """A walk out of the folder, to limits of others."""
    root = kernel.mount("v2", "cgroup2", "rw", root="/" if ".." in path else "/docker/c0ffee")
    kernel.says(f"0::{path}\n")
    limit(root, 600_000)
    limit(root.parent.parent / "elsewhere", 100_000)
    assert cores(kernel.proc) == 6


@pytest.mark.parametrize(
    "content", ["", "max", "7", "two 100000", "100000 0", "-5 100000", "1 2 3", "\x00"]
)
def test_what_can_not_be_understood_limits_nothing(kernel: Kernel, content: str) -> None:
    """A farm that does not start in an odd container."""
    root = kernel.mount("v2", "cgroup2", "rw")
    with (kernel.proc / "mountinfo").open("a") as told:
        told.write("\n - \nx - cgroup2\n1 2 3 4 5 - cgroup2 a b\n")
    kernel.says("nonsense\n\n0:\n0::/\n")
    (root / "cpu.max").write_text(content)
    assert cores(kernel.proc) == MANY


def test_without_cgroups(tmp_path: Path) -> None:
    """A crash where /proc tells nothing of cgroups."""
    assert cores(tmp_path / "nothing") == MANY


def test_of_this_process() -> None:
    """A reader of /proc that fails on the real one."""
    assert 1 <= cores() <= MANY
