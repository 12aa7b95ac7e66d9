"""A reload as the supervisor sees it, where the workers are on other machines alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from farm import wire
from farm.config import Config
from farm.supervisor.pool import Pool
from farm.supervisor.reloading import Reloading
from farm.supervisor.restart import RestartPolicy

if TYPE_CHECKING:
    from farm.supervisor.in_force import InForce


class FakeInForce:
    """What is in force, as a word."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.config = Config()

    def renew(self) -> tuple[list[str], list[str]]:
        self.told.append("new")
        return ["model"], []

    def take_back(self) -> None:
        self.told.append("former")


def policy() -> RestartPolicy:
    return RestartPolicy(backoff_initial_s=1.0, backoff_max_s=1.0, budget=1, window_s=1.0)


def through(reloading: Reloading) -> None:
    """The broker and the pool, which is empty, do what is asked."""
    assert isinstance(reloading.request, wire.Reload)
    reloading.answered(wire.Done())
    assert reloading.step(0.0) == []
    assert not reloading.is_under_way


def made() -> tuple[Reloading, FakeInForce]:
    in_force = FakeInForce()
    pool = Pool([], policy, ready_timeout_s=1.0, retire_timeout_s=1.0)
    kept: InForce = in_force  # type: ignore[assignment]
    return Reloading(kept, pool), in_force


def test_what_no_worker_elsewhere_can_do_is_taken_back_once() -> None:
    # prevents: far workers alone, and a bad model that stays in force though the help denies it
    reloading, in_force = made()
    assert reloading.begin()
    through(reloading)
    with capture_logs() as lines:
        reloading.failed_elsewhere("no worker came up")
        through(reloading)
        reloading.failed_elsewhere("no worker came up")  # the way back fails as well
    assert in_force.told == ["new", "former"]
    assert [line["event"] for line in lines] == ["rollout_failed", "reload_taken_back"]
    assert not reloading.is_under_way


def test_a_second_reload_can_be_taken_back_as_well() -> None:
    # prevents: an operator who mends a file twice, and the second mistake stays
    reloading, in_force = made()
    for _ in range(2):
        assert reloading.begin()
        through(reloading)
        reloading.failed_elsewhere("no worker came up")
        through(reloading)
    assert in_force.told == ["new", "former"] * 2


def test_nothing_is_taken_back_that_was_never_begun() -> None:
    # prevents: a former configuration out of nowhere
    reloading, in_force = made()
    reloading.failed_elsewhere("no worker came up")
    assert in_force.told == []
    assert not reloading.is_under_way
