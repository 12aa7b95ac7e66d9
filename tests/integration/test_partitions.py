"""Several farms that share the tools of a site, and how more are added while holes arrive."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import uuid
from typing import TYPE_CHECKING, Any, Self

import pytest
from rig import (
    ERRORS,
    Farm,
    Hole,
    Mosquitto,
    Site,
    Tool,
    assert_one_answer_each,
    eventually,
    paced,
    run_farm,
    shuffled,
)

from farm.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

RATE_HZ = 50.0


class Group:
    """Partitions of one name at one mosquitto."""

    def __init__(self, port: int, start_farm: Callable[..., Farm]) -> None:
        self.name = f"g-{uuid.uuid4().hex[:8]}"
        self._port, self._start = port, start_farm

    def start(self, index: int, count: int, **options: Any) -> Farm:
        partition = {"group": self.name, "index": index, "count": count}
        return self._start(self._port, workers=1, more={"partition": partition}, **options)

    def add(self, farm: Farm) -> None:
        done = run_farm("partition", "add", "--config", farm.config_file, timeout_s=120)
        assert done.returncode == 0, done.stdout + done.stderr + farm.last_lines()


class Drilling:
    """Holes of many tools at a steady rate, on a thread; parts of one hole up to a second apart."""

    def __init__(self, site: Site, tools: list[Tool], duration_s: float) -> None:
        self.holes: list[Hole] = []
        self._site, self._tools, self._duration_s = site, tools, duration_s
        self._thread = threading.Thread(target=self._run)
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        rng = random.Random(5)
        waiting: list[Any] = []
        for number, _ in enumerate(paced(RATE_HZ, self._duration_s)):
            hole = self._tools[number % len(self._tools)].drill()
            self.holes.append(hole)
            first, *rest = shuffled(hole.parts, rng)
            self._site.send(first)
            waiting.append(rest)
            if len(waiting) > RATE_HZ:  # so at any moment some fifty holes have one part here
                self._site.send(*waiting.pop(0))
            if self._stop.is_set():
                break
        for rest in waiting:
            self._site.send(*rest)


def phase(farm: Farm) -> str:
    return str((farm.stats().get("partition") or {}).get("phase"))


def counts(farm: Farm) -> tuple[int, int]:
    """Holes that arrived, and those that ended without an answer of the model."""
    holes = farm.stats()["holes"]
    return holes["arrived"], holes["dead"]


@pytest.mark.timeout(300)
def test_partitions_are_added_under_load_and_each_hole_is_answered_once(
    make_mosquitto: Callable[..., Mosquitto],
    make_site: Callable[..., Site],
    start_farm: Callable[..., Farm],
) -> None:
    # prevents: a hole whose parts end on two sides of a cut, one that both sides answer, one that
    # neither does
    mosquitto = make_mosquitto(durable=False)  # which saves each change carries too little
    site = make_site(mosquitto.port)
    group = Group(mosquitto.port, start_farm)
    farms = [group.start(0, 1)]
    tools = [Tool() for _ in range(40)]
    with Drilling(site, tools, 240) as drilling:
        for count in (2, 3):
            farms.append(group.start(count - 1, count))
            farm = farms[-1]
            eventually(lambda farm=farm: phase(farm) == "joining", 20, farm.last_lines)  # type: ignore[misc]
            group.add(farms[0])
            assert [phase(farm) for farm in farms] == ["in force"] * count
            at = len(drilling.holes)
            eventually(lambda at=at: len(drilling.holes) > at + 100, 60, "more holes")  # type: ignore[misc]
    site.wait_answered(drilling.holes, 60)
    site.echo()
    assert_one_answer_each(site, drilling.holes)
    assert len(drilling.holes) > 400
    arrived = [counts(farm) for farm in farms]
    assert sum(n for n, _ in arrived) == len(drilling.holes)
    assert not any(dead for _, dead in arrived)
    assert all(n for n, _ in arrived)
    assert farms[0].stats()["partition"]["kept_here"] > 10


@pytest.mark.timeout(240)
def test_a_cut_goes_through_the_death_of_both_sides(
    make_mosquitto: Callable[..., Mosquitto],
    make_site: Callable[..., Site],
    start_farm: Callable[..., Farm],
) -> None:
    # prevents: what was noted, acknowledged or waited for in a broker process alone, and is gone
    # with it at the wrong moment
    mosquitto = make_mosquitto(durable=False)
    site = make_site(mosquitto.port)
    group = Group(mosquitto.port, start_farm)
    old, new = group.start(0, 1), group.start(1, 2)
    eventually(lambda: phase(new) == "joining", 20, new.last_lines)
    topic = f"farm/partition/{group.name}/cut"

    def order(what: str) -> None:
        body = {"do": what, "id": "by-hand", "from": 1, "to": 2}
        site.publish(topic, json.dumps(body).encode())

    with Drilling(site, [Tool() for _ in range(40)], 240) as drilling:
        eventually(lambda: len(drilling.holes) > 100, 30, "holes")
        order("prepare")
        eventually(lambda: len(drilling.holes) > 150, 30, "more holes")
        os.kill(old.broker_pid(), signal.SIGKILL)
        os.kill(new.broker_pid(), signal.SIGKILL)
        order("cut")
        eventually(lambda: phase(old) == phase(new) == "in force", 40, new.last_lines)
        os.kill(old.broker_pid(), signal.SIGKILL)
        os.kill(new.broker_pid(), signal.SIGKILL)
        at = len(drilling.holes)
        eventually(lambda: len(drilling.holes) > at + 100, 60, "more holes")
    site.wait_answered(drilling.holes, 60)
    site.echo()
    # an answer whose confirmation died with its process is sent again, byte for byte
    assert_one_answer_each(site, drilling.holes, repeats_allowed=True)
    assert not any(site.heard(ERRORS))
    for farm in (old, new):
        assert farm.stats()["partition"]["count"] == 2
        assert farm.stats()["holes"]["dead"] == 0


def test_a_cut_waits_for_the_former_owner_and_says_so(
    make_mosquitto: Callable[..., Mosquitto],
    make_site: Callable[..., Site],
    start_farm: Callable[..., Farm],
) -> None:
    # prevents: a new owner that begins before it knows which holes are not its own
    mosquitto = make_mosquitto(durable=False)
    site = make_site(mosquitto.port)
    group = Group(mosquitto.port, start_farm)
    old, new = group.start(0, 1), group.start(1, 2)
    eventually(lambda: phase(new) == "joining", 20, new.last_lines)
    tools = [Tool() for _ in range(20)]
    holes = [tool.drill() for tool in tools]
    for hole in holes:
        site.send(*hole.parts[:1])  # each has one part at the former owner
    topic = f"farm/partition/{group.name}/cut"
    body = {"id": "by-hand", "from": 1, "to": 2}
    site.publish(topic, json.dumps({"do": "prepare"} | body).encode())
    site.wait_acknowledged()
    eventually(lambda: sum_of_buffers(old) >= len(holes), 20, old.last_lines)
    old.signal(signal.SIGTERM)
    old.wait()
    site.publish(topic, json.dumps({"do": "cut"} | body).encode())
    for hole in holes:
        site.send(*hole.parts[1:])
    eventually(lambda: phase(new) == "waiting", 20, new.last_lines)
    assert "waits for partition 0 to pass the cut: start it" in new.stats()["problems"]
    assert not site.answers()
    shown = run_farm("stats", "--once", old.state_dir, new.state_dir)
    assert shown.returncode == 5
    assert "MISSING" in shown.stdout
    old.start()
    site.wait_answered(holes, 40)
    eventually(lambda: phase(new) == "in force", 20, new.last_lines)
    fresh = [tool.drill() for tool in tools]
    for hole in fresh:
        site.send_hole(hole)
    site.wait_answered(fresh, 40)
    site.echo()
    assert_one_answer_each(site, [*holes, *fresh])
    assert new.stats()["holes"]["arrived"] > 0


def sum_of_buffers(farm: Farm) -> int:
    """How many parts wait for others."""
    return sum(farm.stats()["buffers"]["parts_by_kind"].values())


def test_a_partition_that_runs_twice_ends_and_a_cut_needs_all(
    make_mosquitto: Callable[..., Mosquitto], start_farm: Callable[..., Farm]
) -> None:
    # prevents: two farms that answer the same tools for ever; a cut that some do not hear of
    mosquitto = make_mosquitto(durable=False)
    group = Group(mosquitto.port, start_farm)
    first = group.start(0, 2)
    second = group.start(0, 2, wait=False)
    assert second.wait(40) == ExitCode.MQTT_EVICTED
    assert second.events("partition_runs_twice")
    assert first.process is not None
    assert first.process.poll() is None
    eventually(
        lambda: any("partition 1 of 2 is silent" in p for p in first.stats()["problems"]),
        30,
        first.last_lines,
    )
    done = run_farm("partition", "add", "--config", first.config_file, timeout_s=60)
    assert done.returncode == 1
    assert "partition 1 does not live: start it first" in done.stderr
