"""How many workers there are: simulated loads. Nothing flaps, and nothing leaves the bounds."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from farm.config import Config
from farm.scaler import (
    COOL_DOWN_S,
    SETTLE_S,
    STEP_DOWN_S,
    UTILISATION,
    Bounds,
    Load,
    Scaler,
)

SERVICE_S = 0.1
LOAD_S = 3.0  # from the decision to READY


class Site:
    """Holes that arrive at a rate, workers that take time to load, and the scaler between."""

    def __init__(self, *, least=1, most=8, start=2, service_s=SERVICE_S):
        self.scaler = Scaler(Bounds(least, most), start=start)
        self.service_s = service_s
        self.now_s = 0.0
        self.backlog = 0.0
        self.changes = []  # (when, before, after)
        self.worst_backlog = 0.0
        self._ready_at_s = [0.0] * self.scaler.wanted
        self._rates = []

    def run(self, seconds, rate):
        """`rate`: holes per second, or a function of the time that gives it."""
        for _ in range(int(seconds * 2)):  # as often as the supervisor asks
            self.now_s += 0.5
            at_s = rate(self.now_s) if callable(rate) else rate
            self._rates = [*self._rates[-59:], at_s]  # the monitor's window of 30 s
            ready = sum(at <= self.now_s for at in self._ready_at_s)
            self.backlog = max(0.0, self.backlog + 0.5 * (at_s - ready / self.service_s))
            self.worst_backlog = max(self.worst_backlog, self.backlog)
            self._look(ready)

    def _look(self, ready):
        before = self.scaler.wanted
        rate = sum(self._rates) / len(self._rates)
        load = Load(rate, int(self.backlog), self.service_s, ready)
        changed = self.scaler.look(load, self.now_s)
        after = self.scaler.wanted
        assert changed == (after != before)
        assert self.scaler.bounds.least <= after <= self.scaler.bounds.most
        if changed:
            self.changes.append((self.now_s, before, after))
        self._ready_at_s = self._ready_at_s[:after]
        self._ready_at_s += [self.now_s + LOAD_S] * (after - len(self._ready_at_s))

    @property
    def turns(self):
        """How often it went up after down, or down after up."""
        signs = [after > before for _, before, after in self.changes]
        return sum(a != b for a, b in itertools.pairwise(signs))


def needed(rate, service_s=SERVICE_S):
    return math.ceil(rate * service_s / UTILISATION)


def test_a_step_up_is_followed_within_seconds():
    # Prevents a shift's begin that waits for minutes.
    site = Site()
    site.run(60, 5)
    site.run(30, 40)
    assert site.scaler.wanted >= needed(40)
    first = next(at for at, before, after in site.changes if at > 60 and after > before)
    assert first - 60 <= 6
    assert site.worst_backlog < 40 * 10
    site.run(240, 40)
    assert site.scaler.wanted in (needed(40), needed(40) + 1), "what the backlog took is given back"


def test_a_steady_load_changes_nothing_once_it_is_met():
    # Prevents workers that come and go under an even load.
    site = Site()
    site.run(120, 35)
    changes = len(site.changes)
    site.run(300, 35)
    assert site.turns <= 1
    later = site.changes[changes:]
    assert all(after < before for _, before, after in later)
    site.run(1200, 35)
    assert site.turns <= 1


def test_a_step_down_is_followed_slowly_and_one_at_a_time():
    # Prevents workers that leave in a pause of a minute, and all at once.
    site = Site(start=8)
    site.run(100, 50)
    begun_s, before = site.now_s, len(site.changes)
    site.run(COOL_DOWN_S - 2, 2)
    assert len(site.changes) == before
    site.run(300, 2)
    down = site.changes[before:]
    assert site.scaler.wanted == 1
    assert all(b - a == 1 for _, b, a in down)
    assert all(t2 - t1 >= STEP_DOWN_S for (t1, *_), (t2, *_) in itertools.pairwise(down))
    assert down[0][0] - begun_s >= COOL_DOWN_S - 2


def test_bursts_that_come_again_take_nobody_away():
    # Prevents a start and an end of workers with each pallet that comes down the line.
    site = Site()
    site.run(900, lambda s: 45 if s % 45 < 10 else 3)
    assert site.turns <= 1
    half = [c for c in site.changes if c[0] > 300]
    assert len(half) <= 2


def test_a_sawtooth_is_no_reason_to_flap():
    # Prevents a change with each tooth of a load that swings around a bound between two numbers.
    site = Site()
    site.run(1800, lambda s: 14 + 14 * (s % 60) / 60)
    assert site.turns <= 2
    assert len(site.changes) <= 8


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_no_reason_to_flap(seed):
    # Prevents changes that only follow the dice: Poisson arrivals around one mean.
    dice = random.Random(seed)
    site = Site()
    site.run(1800, lambda _s: 2 * sum(dice.random() < 0.25 for _ in range(40)))
    assert site.turns <= 2
    assert len(site.changes) <= 7
    assert site.worst_backlog < 100


def test_a_single_odd_look_adds_nobody():
    # Prevents ten workers for one look at a moment when a batch had just come.
    scaler = Scaler(Bounds(1, 10), start=1)
    for second in range(20):
        backlog = 500 if second == 10 else 0
        scaler.look(Load(1.0, backlog, SERVICE_S, 1), float(second))
    assert scaler.wanted == 1


def test_looks_within_a_second_are_one():
    # Prevents two questions of the supervisor within a moment from counting as steady.
    scaler = Scaler(Bounds(1, 10), start=1)
    scaler.look(Load(0.0, 0, SERVICE_S, 1), 0.0)
    for at_s in (1.0, 1.2, 1.4, 1.6):
        scaler.look(Load(50.0, 0, SERVICE_S, 1), at_s)
    assert scaler.wanted == 1
    scaler.look(Load(50.0, 0, SERVICE_S, 1), 2.1)
    assert scaler.wanted == needed(50)


def test_workers_that_load_are_waited_for_but_not_for_ever():
    # Prevents ever more workers while the first ones load, and none more when one never comes up.
    scaler = Scaler(Bounds(1, 10), start=1)
    for second in range(int(SETTLE_S) + 1):
        scaler.look(Load(10.0, 10 * second, SERVICE_S, 1), float(second))
    assert scaler.wanted == 2
    for second in range(int(SETTLE_S) + 1, int(SETTLE_S) + 6):
        scaler.look(Load(10.0, 10 * second, SERVICE_S, 1), float(second))
    assert scaler.wanted > 2


def test_those_that_were_just_added_are_not_missed_yet():
    # Prevents a farm that calls itself UNHEALTHY each time it adds a worker.
    scaler = Scaler(Bounds(1, 10), start=1)
    for second in range(3):
        scaler.look(Load(50.0, 0, SERVICE_S, 1), float(second))
    assert (scaler.wanted, scaler.settled) == (8, 1)
    scaler.look(Load(50.0, 0, SERVICE_S, 8), 3.0)
    assert scaler.settled == 8
    scaler.look(Load(50.0, 0, SERVICE_S, 2), 20.0)
    assert scaler.settled == 8, "one that was READY is missed at once"
    late = Scaler(Bounds(1, 10), start=1)
    for second in range(int(SETTLE_S) + 3):
        late.look(Load(50.0, 0, SERVICE_S, 1), float(second))
    assert late.settled == late.wanted, "those that never come up are missed, too"


def test_workers_elsewhere_take_their_part():
    # Prevents local workers for what ten of another machine do already.
    assert Load(100.0, 0, SERVICE_S, 1).need == pytest.approx(100 * SERVICE_S / UTILISATION)
    assert Load(100.0, 0, SERVICE_S, 1, elsewhere=10).need == pytest.approx(14.2857 - 10, rel=1e-4)
    assert Load(1.0, 0, SERVICE_S, 1, elsewhere=10).need == 0


def test_nothing_known_changes_nothing():
    # Prevents a farm that shrinks before its first hole.
    scaler = Scaler(Bounds(1, 10), start=6)
    for second in range(500):
        assert not scaler.look(Load(0.0, 100, None, 6), float(second))
    assert scaler.wanted == 6


def test_a_farm_without_holes_scales_down():
    # Prevents workers that stay for a weekend: without holes no service time is measured any more.
    site = Site(start=8)
    site.run(60, 50)
    site.service_s = None
    before = site.scaler.wanted
    assert before > 1
    for second in range(300):
        site.scaler.look(Load(0.0, 0, None, before), site.now_s + second)
    assert site.scaler.wanted == 1


def test_an_operators_number_stands_until_it_is_let_go_of():
    # Prevents a farm that argues with its operator.
    scaler = Scaler(Bounds(1, 8), start=2)
    scaler.pin(20)
    for second in range(300):
        assert not scaler.look(Load(50.0, 100, SERVICE_S, 20), float(second))
    assert scaler.wanted == 20
    assert "farm scale auto" in scaler.reason
    scaler.release()
    assert scaler.wanted == 8
    for second in range(300, 300 + int(COOL_DOWN_S) - 1):
        scaler.look(Load(1.0, 0, SERVICE_S, 8), float(second))
    assert scaler.wanted == 8, "what was before the release says nothing"
    for second in range(360, 600):
        scaler.look(Load(1.0, 0, SERVICE_S, 8), float(second))
    assert scaler.wanted == 1


def test_a_newly_configured_number_is_no_pin_and_what_auto_goes_to():
    # Prevents a reload from 10 to 4 that `farm scale auto` undoes, and one that undoes a pin.
    scaler = Scaler(Bounds(10, 10), start=10)
    scaler.configure(4)
    assert (scaler.wanted, scaler.settled, scaler.pinned, scaler.reason) == (4, 4, False, "fixed")
    scaler.release()
    assert scaler.wanted == 4
    scaler.pin(7)
    scaler.configure(5)
    assert (scaler.wanted, scaler.pinned) == (7, True)
    scaler.release()
    assert scaler.wanted == 5
    by_load = Scaler(Bounds(1, 8), start=2)
    by_load.configure(5)
    assert (by_load.wanted, by_load.bounds) == (2, Bounds(1, 8))


@pytest.mark.parametrize(
    ("given", "least", "most"),
    [
        ({}, 10, 10),
        ({"min": 2}, 2, 4),
        ({"min": 2, "max": 3}, 2, 3),
        ({"min": 2, "max": 16}, 2, 4),
        ({"min": 6, "max": 16}, 6, 6),
        ({"max": 3}, 1, 3),
        ({"min": 1, "max": 16, "threads": 2}, 1, 2),
        ({"min": 1, "max": 16, "threads": 9}, 1, 1),
    ],
    ids=["nothing given: fixed, beyond the cores", "min alone: up to the cores", "both",
         "never beyond the cores by itself", "but what was asked for", "max alone",
         "threads count", "more threads than cores"],
)  # fmt: skip
def test_the_bounds_are_what_was_asked_for_and_the_cores(given, least, most):
    # Prevents eight compute threads on four cores that nobody asked for; and four where ten were.
    config = Config.model_validate({"workers": given, "mqtt": {"processing": {"workers": 10}}})
    assert Bounds.of(config, cores=4) == Bounds(least, most)


def test_on_ray_the_cores_of_this_machine_set_no_bound():
    # Prevents a cluster of forty cores of which a farm with two asks for two.
    given = {"workers": {"launch": "ray", "min": 2, "max": 40}}
    given |= {"attach": {"listen": "*:7003"}, "ray": {"key_file": "/k"}}
    assert Bounds.of(Config.model_validate(given), cores=2) == Bounds(2, 40)


def test_a_fixed_number_never_scales():
    # Prevents the usage of ten workers on two cores from being corrected.
    scaler = Scaler(Bounds(10, 10), start=10)
    for second in range(300):
        assert not scaler.look(Load(0.0, 0, SERVICE_S, 10), float(second))
    assert (scaler.wanted, scaler.is_on, scaler.reason) == (10, False, "fixed")


def test_a_start_beyond_what_is_allowed_is_within_it():
    # Prevents ten workers for ever where `workers.max` is four.
    assert Scaler(Bounds(4, 4), start=10).wanted == 4
    assert Scaler(Bounds(2, 4), start=1).wanted == 2


def test_the_reason_has_the_numbers():
    # Prevents "scaled to 8" without why.
    scaler = Scaler(Bounds(1, 8), start=1)
    for second in range(3):
        scaler.look(Load(30.0, 20, SERVICE_S, 1, elsewhere=1), float(second))
    assert scaler.reason == (
        "30.0 holes/s of 100 ms, 20 wait, 1 workers elsewhere: 3.5 workers at 70% busy"
    )
