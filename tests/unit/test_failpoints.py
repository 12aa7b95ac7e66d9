"""Failpoints kill where they are armed, and nowhere else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from farm.failpoints import NAMES, VARIABLE

SCRIPT = """
import time
from farm import failpoints
time.monotonic = iter([10.0, 10.2, 10.4, 10.6]).__next__
for n in range(1, 5):
    failpoints.reach("recorded")
    print(n, flush=True)
"""


def run(value: str | None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE}
    if value is not None:
        environment[VARIABLE] = value
    return subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )


def test_it_kills_at_the_named_point_some_time_after_it_came_there_first() -> None:
    # at once, it would die again and again over the same hole and get nothing done
    ended = run("recorded:0.3")
    assert (ended.returncode, ended.stdout.split()) == (-signal.SIGKILL, ["1", "2"])


def test_without_it_nothing_happens() -> None:
    assert run(None).returncode == 0
    assert run("done:0").returncode == 0


@pytest.mark.parametrize("value", ["nowhere:1", "recorded", "recorded:-1", "recorded:x"])
def test_a_wrong_name_is_told_and_not_passed_over(value: str) -> None:
    # prevents: a campaign that kills nothing and proves nothing
    ended = run(value)
    assert ended.returncode == 1
    assert NAMES[0] in ended.stderr
