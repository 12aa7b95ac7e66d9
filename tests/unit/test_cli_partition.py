"""`farm partition add`: what it orders, in turn, and what it says when one does not follow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from farm.broker.roll_call import RollCall
from farm.cli import partition as module
from farm.cli.partition import make_cut
from farm.errors import FarmError


class Site:
    """Two partitions, one in force and one that joins; `follows` says up to which order."""

    def __init__(self, follows: tuple[str, ...]) -> None:
        self.call = RollCall("m/")
        self.follows, self.told = follows, list[str]()
        self.beat = 0
        for _ in range(2):
            self.say(0, phase="in force")
            self.say(1, phase="joining", configured=2)

    def say(self, index: int, **more: Any) -> None:
        self.beat += 1
        mark = {"token": f"t{index}", "beat": self.beat, "phase": "in force", "count": 1}
        mark |= {"configured": 1, "prepared": "", "cut": ""} | more
        self.call.heard(f"m/{index}", json.dumps(mark).encode())

    def tell(self, what: str, cut_id: str, **more: int) -> None:
        self.told.append(what)
        assert what != "prepare" or more == {"from": 1, "to": 2}
        self.say(0, **self.answer(what, cut_id))
        if what in self.follows:
            self.say(1, **self.answer(what, cut_id))

    @staticmethod
    def answer(what: str, cut_id: str) -> dict[str, Any]:
        return {"prepared": cut_id} if what == "prepare" else {"cut": cut_id, "count": 2}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LISTEN_S", "LISTEN_MOST_S", "VOW_TIMEOUT_S", "CUT_TIMEOUT_S"):
        monkeypatch.setattr(module, name, 0.0)


def test_it_prepares_waits_and_cuts(capsys: pytest.CaptureFixture[str]) -> None:
    site = Site(("prepare", "cut"))
    make_cut(site.call, site.tell)
    assert site.told == ["prepare", "cut"]
    assert "write partition.count: 2" in capsys.readouterr().out


def test_one_that_is_not_ready_calls_it_off() -> None:
    # prevents: a cut that one partition has never heard of
    site = Site(())
    with pytest.raises(FarmError, match=r"partition 1 is not ready .* nothing was changed"):
        make_cut(site.call, site.tell)
    assert site.told == ["prepare", "give up"]


def test_behind_the_cut_nothing_is_called_off() -> None:
    # prevents: a message that says all is as before, when it is not
    site = Site(("prepare",))
    with pytest.raises(FarmError, match="the cut is made, and partition 1 has not passed it"):
        make_cut(site.call, site.tell)
    assert site.told == ["prepare", "cut"]
