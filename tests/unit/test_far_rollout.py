"""A reload on other machines: who is sent away when, and what happens when none comes back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs
from test_attached import FAR, HASH, beat, hello, ready
from test_desk import Bench

from farm import wire

if TYPE_CHECKING:
    from collections.abc import Iterable

TIMEOUTS = {"dispatch": {"job_timeout_s": 30.0}, "workers": {"ready_timeout_s": 40.0}}
PATIENCE_S = 90.0  # these two, and a while to try again
NEW = replace(FAR, config_hash="new", config=TIMEOUTS)


class Farm:
    """A desk with workers on other machines, each a process that obeys."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, size: int, *, local: bool = False) -> None:
        self.bench = Bench()
        self.bench.desk._introduction = FAR
        self.monkeypatch = monkeypatch
        self.now_s = 0.0
        if local:
            self.bench.ready(1)
        self.ids = {pid: ready(self.bench, HASH, pid)[0] for pid in range(100, 100 + size)}

    def reload(self, to: object = NEW) -> None:
        self.monkeypatch.setattr(self.bench.house, "reload", lambda: to)
        assert self.bench.desk.answer(wire.Reload(), self.now_s) == wire.Done()

    def report(self, *, is_reloading: bool = False) -> wire.SupervisorOrders:
        request = wire.SupervisorReport([], [], {}, {}, is_reloading)
        orders = self.bench.desk.answer(request, self.now_s)
        assert isinstance(orders, wire.SupervisorOrders)
        return orders

    def leaving(self) -> list[int]:
        """Who is told to leave and to come back: the pids."""
        told = {}
        for pid, worker_id in self.ids.items():
            orders = beat(self.bench, worker_id, self.now_s)
            assert isinstance(orders, wire.Orders)
            told[pid] = bool(orders.leave)
            assert orders.anew == told[pid]
        return [pid for pid, is_told in told.items() if is_told]

    def return_of(self, pids: Iterable[int]) -> None:
        for pid in pids:
            self.ids[pid], answer = ready(self.bench, HASH, pid)
            assert answer == wire.Orders(known=True)


def test_nobody_elsewhere_is_sent_away_before_the_local_workers_are_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # prevents: a wrong model that takes all far workers down, before the first local one failed
    farm = Farm(monkeypatch, 3, local=True)
    farm.reload()
    for _ in range(5):
        farm.report(is_reloading=True)
    assert farm.leaving() == []
    farm.report()
    assert farm.leaving() == [100]


def test_a_reload_that_was_taken_back_meanwhile_sends_nobody_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # prevents: far workers that are started anew for a configuration that they have
    farm = Farm(monkeypatch, 3, local=True)
    farm.reload()
    farm.report(is_reloading=True)
    farm.reload(FAR)
    farm.report()
    farm.report()
    assert farm.leaving() == []


def test_one_goes_first_and_then_a_quarter_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # prevents: a farm without workers while all of them load, or one that needs an hour for it
    farm = Farm(monkeypatch, 9)
    farm.reload()
    waves = []
    with capture_logs() as lines:
        for _ in range(20):
            farm.report()
            farm.report()
            waves.append(farm.leaving())
            farm.return_of(waves[-1])
    assert [len(wave) for wave in waves if wave] == [1, 2, 2, 2, 2]
    assert sorted(pid for wave in waves for pid in wave) == list(farm.ids)
    over = [line for line in lines if line["event"] == "far_workers_reloaded"]
    assert [line["workers"] for line in over] == [9]


@pytest.mark.parametrize("local", [True, False])
def test_where_the_first_does_not_come_back_the_others_stay(
    monkeypatch: pytest.MonkeyPatch, *, local: bool
) -> None:
    # prevents: a bad model with far workers alone, which is never taken back
    farm = Farm(monkeypatch, 3, local=local)
    farm.reload(replace(NEW, config_hash="def") if local else NEW)
    if local:
        farm.bench.desk._introduction = replace(NEW, config_hash="def")
        farm.bench.ready(2)  # its successor
    farm.report()
    [first] = farm.leaving()
    del farm.ids[first]
    with capture_logs() as lines:
        farm.now_s = PATIENCE_S - 1
        assert farm.report().take_back == ""
        farm.now_s = PATIENCE_S + 1
        told = farm.report().take_back
        farm.report()
    assert farm.leaving() == []
    assert bool(told) != local
    [line] = [line for line in lines if line["event"] == "far_rollout_failed"]
    assert line["log_level"] == "error"
    assert ("keep the former" in line["effect"]) == local
    farm.reload(FAR)  # by the supervisor, which takes it back, or by an operator
    assert farm.report().take_back == ""


def test_a_first_one_that_is_not_let_in_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # prevents: minutes of waiting for what is known to have failed
    farm = Farm(monkeypatch, 2)
    farm.reload()
    farm.report()
    [first] = farm.leaving()
    _, answer = ready(farm.bench, "another", first)
    assert isinstance(answer, wire.Refused)
    assert "another model" in farm.report().take_back


def test_a_machine_that_is_lost_once_one_is_proven_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # prevents: half of the workers with the old model for ever, since one was switched off
    farm = Farm(monkeypatch, 3)
    farm.reload()
    farm.report()
    farm.return_of(farm.leaving())
    farm.report()
    [lost] = farm.leaving()
    del farm.ids[lost]
    farm.now_s = PATIENCE_S + 1
    assert farm.report().take_back == ""
    assert len(farm.leaving()) == 1


def test_a_worker_that_joins_meanwhile_is_told_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    # prevents: one that is sent away as soon as it has come
    farm = Farm(monkeypatch, 0)
    farm.reload()
    assert hello(farm.bench, 7).config_hash.startswith("new-")
    farm.report()
    assert farm.bench.flow.roster.all()[0].leave == ""
