"""More comes than the workers can do: memory stays bounded, fresh holes pass, nothing is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest
from rig import (
    DEPTHS,
    ODD_MODELS,
    Farm,
    Hole,
    Mosquitto,
    Site,
    Tool,
    assert_error,
    assert_one_answer_each,
    eventually,
    paced,
    settle,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.chaos

CAPACITY = 20.0  # holes a second: one worker of odd_models:Slow
SLOW = {"workers": 1, "model": "odd_models:Slow", "environment": ODD_MODELS}
MB = 1_000_000


@pytest.fixture
def mosquitto(make_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    """One that carries the load of these tests."""
    return make_mosquitto(durable=False)


def _drill(site: Site, tools: list[Tool], rate: float, duration_s: float) -> list[Hole]:
    holes = []
    for number, _ in enumerate(paced(rate, duration_s)):
        hole = tools[number % len(tools)].drill()
        site.send_hole(hole)
        holes.append(hole)
    return holes


@pytest.mark.timeout(240)
def test_three_times_what_it_can_do_costs_no_hole_and_no_memory(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a process that grows until the kernel kills it; a fresh hole that waits behind an
    # hour's backlog
    farm = start_farm(
        mosquitto.port,
        **SLOW,
        overload={"memory_bytes": 4 * MB, "objective_s": 1.0},
    )
    broker = psutil.Process(farm.broker_pid())
    warm = _drill(site, [Tool()], 10, 1)
    site.wait_answered(warm)
    before_bytes = broker.memory_info().rss
    flood = _drill(site, [Tool() for _ in range(4)], 3 * CAPACITY, 20)
    shot = farm.stats()
    assert shot["jobs"]["memory_bytes"] <= 5 * MB
    assert shot["counts"]["spilled"] > 100
    grown_bytes = broker.memory_info().rss - before_bytes
    assert grown_bytes < 60 * MB, f"it grew by {grown_bytes / MB:.0f} MB"
    fresh = [*_drill(site, [Tool()], 5, 2), *_drill(site, [Tool()], 5, 1)]
    site.wait_answered(fresh)
    waiting = farm.stats()["jobs"]["pending"]
    assert waiting > 100, "the backlog was gone before the fresh ones were answered: proves nothing"
    site.wait_answered(flood, 120)
    settle(site, farm)
    assert_one_answer_each(site, [*warm, *flood, *fresh])


def test_one_tools_flood_does_not_hold_up_another(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: one unit that replays its day and makes all others wait
    farm = start_farm(mosquitto.port, **SLOW, overload={"objective_s": 60.0})
    loud, quiet = Tool(), Tool()
    flood = [loud.drill() for _ in range(200)]
    for hole in flood:
        site.send_hole(hole)
    eventually(lambda: farm.stats()["holes"]["arrived"] >= 200, 10, "the flood is in")
    few = [quiet.drill() for _ in range(3)]
    for hole in few:
        site.send_hole(hole)
    site.wait_answered(few)
    assert farm.stats()["jobs"]["pending"] > 100
    site.wait_answered(flood, 40)
    settle(site, farm)
    assert_one_answer_each(site, [*flood, *few])


def test_beyond_its_limit_the_farm_lets_mqtt_hold_the_rest(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a bound that drops, or none at all
    farm = start_farm(mosquitto.port, **SLOW, overload={"max_open_jobs": 50})
    holes = _drill(site, [Tool() for _ in range(3)], 3 * CAPACITY, 5)
    shot = eventually(
        lambda: (shot := farm.stats())["intake"]["braked"] and shot, 10, "the brake is on"
    )
    assert shot["jobs"]["unanswered"] <= 60
    site.wait_answered(holes, 60)
    settle(site, farm)
    assert_one_answer_each(site, holes)
    assert farm.stats()["holes"]["shed"] == 0


@pytest.mark.parametrize("policy", ["oldest", "newest"])
def test_shed_holes_get_an_error_and_are_counted(
    policy: str, mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: an overload in which holes vanish
    farm = start_farm(
        mosquitto.port,
        **SLOW,
        overload={"max_open_jobs": 40, "shed": policy, "shed_after_s": 1.0},
    )
    holes = _drill(site, [Tool() for _ in range(3)], 3 * CAPACITY, 6)
    site.wait_answered(holes, 60)
    settle(site, farm)
    assert_one_answer_each(site, holes)
    ends = farm.stats()["holes"]
    assert ends["shed"] > 0
    assert ends["arrived"] == ends["published"] + ends["shed"] == len(holes)
    errors = [hole for hole in holes if site.answers()[hole.key][DEPTHS][0].body.get("Error")]
    assert len(errors) == ends["shed"]
    assert_error(site, errors[0], "Shed after", "overload.shed")


def test_a_flood_of_halves_is_bounded_and_each_gets_its_error(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a gateway that lost its Results and fills the farm with Traces
    farm = start_farm(
        mosquitto.port,
        workers=1,
        mqtt={"listener": {"max_buffer_size": 100, "time_window": 20.0}},
    )
    loud, quiet = [Tool("2024-12") for _ in range(4)], Tool()
    halves = [tool.drill() for _ in range(100) for tool in loud]
    whole = []
    for number, half in enumerate(halves):
        site.send(half.part("trace"))
        if number % 100 == 0:
            whole.append(quiet.drill())
            site.send_hole(whole[-1])
    site.wait_answered([*halves, *whole], 60)
    settle(site, farm)
    assert_one_answer_each(site, [*halves, *whole])
    shot = farm.stats()
    assert shot["counts"]["evicted"] >= 250
    assert (shot["holes"]["dead"], shot["holes"]["published"]) == (len(halves), len(whole))
