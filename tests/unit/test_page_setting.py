"""The section `page:`, and the process beside the farm that it asks for."""

from __future__ import annotations

import itertools
import signal

import pytest
from pydantic import ValidationError

from farm.config import Config
from farm.config.show import worker_view
from farm.errors import ConfigError
from farm.references import check_references
from farm.supervisor.aside import FIRST_WAIT_S, MAX_WAIT_S, SETTLED_S, Aside


def page(**given):
    return Config.model_validate({"page": given}).page


def test_it_is_off_unless_it_is_asked_for():
    assert (Config().page.listen, Config().page.port) == ("", 0)


@pytest.mark.parametrize("listen", ["127.0.0.1:8780", "localhost:1", "[::1]:65535", "127.9.9.9:80"])
def test_on_this_machine_no_token_is_needed(listen):
    assert page(listen=listen).is_local


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:8780", "10.1.2.3:8780", "[::]:8780", "[fe80::1]:80", "farm:8780", "*:8780"]
)
def test_beyond_it_one_is(listen, tmp_path):
    # prevents: every hole of a plant open to whoever finds the port
    with pytest.raises(ValidationError, match=r"not on loopback"):
        page(listen=listen)
    assert not page(listen=listen, token_file=tmp_path).is_local


@pytest.mark.parametrize(
    "listen", ["8780", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "1.2.3:80",
               "300.1.1.1:80", "localhost:99999", "[:::]:80"]
)  # fmt: skip
def test_an_address_is_one(listen):
    with pytest.raises(ValidationError, match="HOST:PORT"):
        page(listen=listen)


@pytest.mark.parametrize("count", [99, 100_001])
def test_the_list_is_no_longer_than_can_be_searched_at_once(count):
    # prevents: a filter that keeps all other browsers waiting for half a second
    with pytest.raises(ValidationError, match="keep_holes"):
        page(keep_holes=count)


def test_a_token_that_is_not_there_is_found_before_the_start(tmp_path):
    given = {"listen": "127.0.0.1:8780", "token_file": str(tmp_path / "none")}
    config = Config.model_validate({"model": "rule", "page": given})
    with pytest.raises(ConfigError, match=r"page\.token_file.*can't be read"):
        check_references(config)


def test_missing_packages_are_found_before_the_start(monkeypatch):
    monkeypatch.setattr("farm.references.PAGE_NEEDS", ("no_such_package",))
    check_references(Config.model_validate({"model": "rule"}))
    config = Config.model_validate({"model": "rule", "page": {"listen": "127.0.0.1:8780"}})
    with pytest.raises(ConfigError, match=r"no_such_package.*farm\[page\]"):
        check_references(config)


def test_workers_are_told_nothing_of_it():
    # prevents: the place of a secret on other machines, and workers replaced for another port
    given = {"listen": "127.0.0.1:1", "token_file": "/secret"}
    view = worker_view(Config.model_validate({"page": given}))
    assert view == worker_view(Config())
    assert "secret" not in str(view)


class Bench:
    """A supervisor's hands, and what they did."""

    def __init__(self, command=("dashboard",)):
        self.spawned, self.told, self.fails = [], [], False
        self.aside = Aside(
            "page", command, spawn=self._spawn, tell=lambda p, s: self.told.append((*p, s))
        )

    def _spawn(self, command):
        if self.fails:
            raise OSError(11, "no process ids")
        self.spawned.append(command)
        return 100 + len(self.spawned)


def test_it_is_started_again_with_a_growing_wait_for_ever():
    # prevents: a page that can't start and takes the cores with trying, or is given up
    bench, now_s, started_s = Bench(), 0.0, []
    while len(bench.spawned) < 11:
        before = len(bench.spawned)
        bench.aside.keep(now_s)
        if len(bench.spawned) > before:
            started_s.append(now_s)
            assert bench.aside.ended(100 + len(bench.spawned), 1, now_s)
        now_s += 0.5
    waits = [after - before for before, after in itertools.pairwise(started_s)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (FIRST_WAIT_S, MAX_WAIT_S)


def test_one_that_ran_for_long_is_back_at_once():
    bench = Bench()
    bench.aside.keep(0.0)
    bench.aside.ended(101, 1, 0.1)
    bench.aside.keep(1.2)
    assert bench.aside.ended(102, -9, 1.2 + SETTLED_S)
    bench.aside.keep(1.2 + SETTLED_S + FIRST_WAIT_S)
    assert len(bench.spawned) == 3


def test_others_ends_are_not_its_own():
    bench = Bench()
    assert not bench.aside.ended(0, 0, 0.0)
    bench.aside.keep(0.0)
    assert not bench.aside.ended(7, 0, 0.0)


def test_no_room_for_it_is_no_harm():
    # prevents: a farm that ends because there was no process id left for its page
    bench = Bench()
    bench.fails = True
    bench.aside.keep(0.0)
    bench.fails = False
    bench.aside.keep(0.1)
    assert bench.spawned == []
    bench.aside.keep(FIRST_WAIT_S)
    assert len(bench.spawned) == 1


def test_one_that_is_to_end_stays_away():
    bench = Bench()
    bench.aside.keep(0.0)
    bench.aside.stop()
    assert bench.told == [(101, signal.SIGTERM)]
    assert bench.aside.ended(101, 0, 1.0)
    bench.aside.keep(1000.0)
    assert len(bench.spawned) == 1
    off = Bench(command=None)
    off.aside.keep(0.0)
    off.aside.stop()
    assert (off.spawned, off.told) == ([], [])
