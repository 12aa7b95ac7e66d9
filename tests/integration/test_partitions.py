"""Several farms that share the tools of a site, and how more are added while holes arrive."""

from __future__ import annotations

import random
import threading
import uuid
from typing import TYPE_CHECKING, Any, Self

from rig import (
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
    with Drilling(site, tools, 120) as drilling:
        for count in (2, 3):
            farms.append(group.start(count - 1, count))
            farm = farms[-1]
            eventually(lambda farm=farm: phase(farm) == "joining", 20, farm.last_lines)  # type: ignore[misc]
            group.add(farms[0])
            assert [phase(farm) for farm in farms] == ["in force"] * count
            at = len(drilling.holes)
            eventually(lambda at=at: len(drilling.holes) > at + 100, 30, "more holes")  # type: ignore[misc]
    site.wait_answered(drilling.holes, 60)
    site.echo()
    assert_one_answer_each(site, drilling.holes)
    assert len(drilling.holes) > 400
    arrived = [counts(farm) for farm in farms]
    assert sum(n for n, _ in arrived) == len(drilling.holes)
    assert not any(dead for _, dead in arrived)
    assert all(n for n, _ in arrived)
    assert farms[0].stats()["partition"]["kept_here"] > 10
