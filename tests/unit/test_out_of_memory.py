"""Whether the kernel killed for want of memory, read from files like the kernel's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from farm.supervisor.memory import OutOfMemoryKills, offer_to_kernel

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("own_group", "counter"),
    [
        ("0::/farm.slice/farm.service\n", "farm.slice/farm.service/memory.events"),
        ("4:memory:/farm\n0::/\n", "memory/farm/memory.oom_control"),
        ("9:cpu:/farm\n", None),  # the system's own count is left
    ],
)
def test_a_kill_is_seen_once(tmp_path: Path, own_group: str, counter: str | None) -> None:
    # prevents: "killed by SIGKILL" for a worker that was too big, or that said of all later kills
    groups, system = tmp_path / "cgroup", tmp_path / "vmstat"
    (tmp_path / "own").write_text(own_group)
    system.write_text("nr_free_pages 5\noom_kill 3\n")
    path = system
    if counter is not None:
        path = groups / counter
        path.parent.mkdir(parents=True)
        path.write_text("low 0\noom 4\noom_kill 2\noom_kill_disable 0\n")
    kills = OutOfMemoryKills(groups=groups, own_group=tmp_path / "own", system=system)
    assert not kills.has_risen()
    path.write_text("oom_kill 4\n")
    assert kills.has_risen()
    assert not kills.has_risen()


def test_a_kernel_that_does_not_count_says_nothing(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert not OutOfMemoryKills(groups=nowhere, own_group=nowhere, system=nowhere).has_risen()


@pytest.mark.parametrize(("own", "raised"), [("0", "300"), ("-500", "-200"), ("900", "1000")])
def test_a_worker_is_offered_before_its_parent(tmp_path: Path, own: str, raised: str) -> None:
    # prevents: a score below the one that the whole farm was given
    path = tmp_path / "oom_score_adj"
    path.write_text(own)
    offer_to_kernel(path)
    assert path.read_text() == raised
