"""What a new broker is told of the number of workers, and what a reload of it means."""

from __future__ import annotations

from farm import wire
from farm.config import Config
from farm.supervisor.staffing import Staffing


def config(workers: int, **bounds: int) -> Config:
    return Config.model_validate({"workers": bounds, "mqtt": {"processing": {"workers": workers}}})


def test_a_pinned_number_is_told_and_what_is_configured_is_started_with() -> None:
    # prevents: `farm scale auto` that stays at the operator's number, after a broker's death
    staffing = Staffing(config(10))
    assert (staffing.broker_starts(), staffing.request) == (10, None)
    staffing.wanted, staffing.is_pinned = 4, True
    assert staffing.broker_starts() == 10
    assert staffing.request == wire.Scale(4)


def test_a_reload_of_the_number_is_no_pin() -> None:
    # prevents: "pinned by an operator" after a reload, and a new broker that goes back to 10
    staffing = Staffing(config(10))
    staffing.reconfigured(config(10))
    assert staffing.request is None
    staffing.reconfigured(config(4))
    request = staffing.request
    assert request == wire.Configured(4)
    staffing.told(request)
    assert staffing.request is None
    # that broker ended before the supervisor got its order
    assert (staffing.broker_starts(), staffing.request) == (4, wire.Configured(4))
    staffing.wanted = 4
    assert (staffing.broker_starts(), staffing.request) == (4, None)


def test_a_pin_outlasts_a_reload_that_comes_before_it_was_told() -> None:
    # prevents: a pin that is forgotten since the broker ended just before the reload
    staffing = Staffing(config(10))
    staffing.wanted, staffing.is_pinned = 7, True
    staffing.broker_starts()
    pin = staffing.request
    staffing.reconfigured(config(5))
    assert pin == wire.Scale(7)
    staffing.told(pin)
    assert staffing.request == wire.Configured(5)


def test_where_the_load_has_the_say_a_new_broker_goes_on_from_there() -> None:
    # prevents: all workers started again with each new broker
    staffing = Staffing(config(4, min=1, max=8))
    staffing.wanted = 2
    assert (staffing.broker_starts(), staffing.request) == (2, None)
    staffing.reconfigured(config(6, min=1, max=8))
    assert staffing.request is None
    staffing.is_pinned = True
    staffing.broker_starts()
    assert staffing.request == wire.Scale(2)
