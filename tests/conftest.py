"""The fixtures of the tests with real processes. Helpers stand in `tests/rig.py`."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from rig import Farm, Mosquitto, Site, settings_for, short_directory

from farm.simulation.mqttd import find_mosquitto

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


WORKERS_PER_CORE = 2  # most tests wait for processes, a fixed time or the disk
MOST_WORKERS = 8  # each may have PyTorch in memory


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many tests `-n auto` runs at a time."""
    return min(WORKERS_PER_CORE * len(os.sched_getaffinity(0)), MOST_WORKERS)


@pytest.fixture(scope="session")
def has_mosquitto() -> None:
    """Skip where there is no mosquitto, but never in CI: a skipped suite looks like a green one."""
    if find_mosquitto() is not None:
        return
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail("mosquitto is missing, and in CI nothing may be skipped: apt install mosquitto")
    pytest.skip("mosquitto is not installed: apt install mosquitto")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """An empty directory, for sockets: below `tmp_path` their paths may get too long."""
    made = short_directory()
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def make_mosquitto(has_mosquitto: None) -> Iterator[Callable[..., Mosquitto]]:
    """Starts mosquittos with settings of the test's own."""
    made: list[Mosquitto] = []

    def make(**options: Any) -> Mosquitto:
        mosquitto = Mosquitto(**options)
        made.append(mosquitto)
        mosquitto.start()
        return mosquitto

    yield make
    for mosquitto in made:
        mosquitto.close()


@pytest.fixture
def mosquitto(make_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    """A real mosquitto that loses nothing, for this test alone."""
    return make_mosquitto()


@pytest.fixture
def make_site() -> Iterator[Callable[..., Site]]:
    """Connects sites with options of the test's own."""
    made: list[Site] = []

    def make(port: int, **options: Any) -> Site:
        site = Site(port, **options)
        made.append(site)
        return site

    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(mosquitto: Mosquitto, make_site: Callable[..., Site]) -> Site:
    """Publishes holes and hears the answers, before any farm starts."""
    return make_site(mosquitto.port)


@pytest.fixture
def start_farm() -> Iterator[Callable[..., Farm]]:
    """Starts farms: `start_farm(port, workers=2, mqtt={…}, …)` waits until they are READY.

    `wait=False` does not wait, `state_dir` and `environment` are the process's, all else settings;
    `more` holds those whose names are taken here.
    """
    made: list[Farm] = []

    def start(
        port: int,
        *,
        workers: int = 2,
        wait: bool = True,
        state_dir: Any = None,
        environment: dict[str, str] | None = None,
        more: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Farm:
        farm = Farm(
            settings_for(port, **settings, **(more or {})), workers=workers, state_dir=state_dir
        )
        farm.environment |= environment or {}
        made.append(farm)
        farm.start()
        if wait:
            farm.wait_ready()
        return farm

    yield start
    problems = []
    for farm in reversed(made):  # a later one may live in the directory of an earlier one
        try:
            farm.close()
        except AssertionError as error:
            problems.append(str(error))
    assert not problems, problems
