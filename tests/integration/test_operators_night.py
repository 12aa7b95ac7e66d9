"""An operator's night, as docs/operations.md tells it: the page is read, and held to what happens.

Its tables say where to look (a command, the log, an alert, a health check, the page) and, in
quotes, what is seen there.
"""

from __future__ import annotations

import contextlib
import re
import threading
import urllib.request
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import pytest
from prometheus import fetch
from rig import (
    REPOSITORY,
    Farm,
    Hole,
    Mosquitto,
    Site,
    Tool,
    assert_one_answer_each,
    eventually,
    marked_hole,
    paced,
    run_farm,
)

from farm.simulation.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus import Prometheus

pytestmark = pytest.mark.integration

PAGE = REPOSITORY / "docs" / "operations.md"
STORY = "## An operator's night"
IN_TIME_S = 30
WINDOW = "6s"  # over which alerts look back, instead of minutes
TOOLS = 4
QUIET_HZ, BUSY_HZ = 8.0, 36.0  # with two workers that need 100 ms for a hole
PAGES = {"Dead letters": "/api/dead", "Live": "/events"}
ODD = "odd_models:SlowAndHangsOnMarked"


class Look(NamedTuple):
    """A row: where somebody looks, and what must be there."""

    where: str
    words: tuple[str, ...]


def told() -> dict[str, list[Look]]:
    """The rows of the story, by the heading above them."""
    story = PAGE.read_text().split(STORY)[1].split("\n## ")[0]
    found = {}
    for chapter in story.split("\n### ")[1:]:
        heading, _, body = chapter.partition("\n")
        rows = re.findall(r"^\| `?([^`|]+?)`? \| (.+) \|$", body, re.MULTILINE)
        found[heading] = [
            Look(where, tuple(re.findall(r'"([^"]+)"', words)))
            for where, words in rows
            if where not in ("look at", "---")
        ]
    return found


class Night:
    """A farm with a Prometheus and a page beside it, and whoever looks at them."""

    def __init__(
        self,
        mosquitto: Mosquitto,
        site: Site,
        start_farm: Callable[..., Farm],
        start_prometheus: Callable[..., Prometheus],
    ) -> None:
        self.mosquitto, self.site = mosquitto, site
        self.metrics_port = free_ports(2)
        self.page_port = self.metrics_port + 1
        target = f"127.0.0.1:{self.metrics_port}"
        self.farm = start_farm(
            mosquitto.port,
            workers=2,
            metrics={"listen": target},
            page={"listen": f"127.0.0.1:{self.page_port}"},
            model=ODD,
            dispatch={"job_timeout_floor_s": 1.0, "job_timeout_s": 2.0, "max_attempts": 2},
            throughput={"window_s": 4},
            environment={"PYTHONPATH": str(REPOSITORY / "tests")},
        )
        self.prometheus = start_prometheus(target, WINDOW)
        self.tools = [Tool() for _ in range(TOOLS)]
        self.hole: Hole | None = None  # whom the story is about
        self.sent: list[Hole] = []
        self._missed = ""
        eventually(self.prometheus.is_up, IN_TIME_S, "Prometheus scrapes the farm")

    def drill(self, rate_hz: float, seconds: float, *, without: Tool | None = None) -> None:
        tools = [tool for tool in self.tools if tool is not without]
        for n, _ in enumerate(paced(rate_hz, seconds)):
            self.sent.append(tools[n % len(tools)].drill())
            self.site.send_hole(self.sent[-1])

    @contextlib.contextmanager
    def drilling(self, rate_hz: float) -> Iterator[None]:
        """Holes at a steady pace, meanwhile."""
        is_over = threading.Event()

        def go_on() -> None:
            while not is_over.is_set():
                self.drill(rate_hz, 0.5)

        drilling = threading.Thread(target=go_on)
        drilling.start()
        try:
            yield
        finally:
            is_over.set()
            drilling.join()

    def see(self, chapter: str) -> None:
        """All that the page says of this is there to be seen, sooner or later."""
        rows = told()[chapter]
        assert rows, f"{PAGE.name} has no table under {chapter!r}"
        for look in rows:
            assert look.words, f"{PAGE.name}: nothing in quotes beside {look.where}"
            eventually(partial(self._is_seen, look), IN_TIME_S, lambda: self._missed)

    def _is_seen(self, look: Look) -> bool:
        shown = self._look(look.where)
        self._missed = f"{look.where} shows {look.words}, and not\n{shown}"
        return all(word in shown for word in look.words)

    def _look(self, where: str) -> str:
        if where == "the log":
            return self.farm.log
        if where == "alerts":
            return " ".join(sorted(self.prometheus.firing()))
        if where == "/readyz":
            return fetch(self.metrics_port, where)[1]
        source, result_id = (self.hole.source, self.hole.result_id) if self.hole else ("", "")
        if where.startswith("the page, "):
            return self._page(where.removeprefix("the page, "))
        told = {"TOOL": source, "RESULT_ID": result_id}
        words = [told.get(word, word) for word in where.removeprefix("farm ").split()]
        done = run_farm(
            *words, "--state-dir", self.farm.state_dir, "--config", self.farm.config_file
        )
        return done.stdout + done.stderr

    def _page(self, name: str) -> str:
        """What the browser is given for it: the tests of the page see to it that it is drawn."""
        url = f"http://127.0.0.1:{self.page_port}{PAGES[name]}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            if name != "Live":
                return answer.read().decode()
            while answer.readline() != b"event: now\n":  # an endless stream
                pass
            told = answer.readline().decode()
            return told + told.replace("_", " ").lower()  # as the line on top has the state

    def order(self, *words: object) -> None:
        done = run_farm(*words, "--state-dir", self.farm.state_dir)
        assert done.returncode == 0, done.stderr

    def is_over(self, *alerts: str) -> None:
        """The farm is well again, and these alerts are."""
        eventually(
            lambda: self.farm.stats()["state"] == "HEALTHY", IN_TIME_S, "the farm is HEALTHY"
        )
        eventually(
            lambda: not set(alerts) & self.prometheus.firing(), IN_TIME_S, f"{alerts} are over"
        )


@pytest.fixture
def night(
    mosquitto: Mosquitto,
    site: Site,
    start_farm: Callable[..., Farm],
    start_prometheus: Callable[..., Prometheus],
) -> Iterator[Night]:
    return Night(mosquitto, site, start_farm, start_prometheus)


def test_the_night_that_the_page_tells_of(night: Night) -> None:
    """Prevents: an operator at three in the morning who is sent to look where nothing is."""
    site = night.site
    night.drill(QUIET_HZ, 2.0)

    night.hole = stuck = marked_hole(night.tools[0])
    site.send_hole(stuck)
    night.see("A worker hangs")
    night.order("dead", "drop", "--all")
    night.is_over("FarmDeadLetters")
    site.wait_answered(night.sent)

    odd = night.tools[1]
    garbled = [odd.drill().changed("result", lambda payload: payload[:20]) for _ in range(9)]
    night.hole = garbled[0]
    for hole in garbled:
        site.send(hole.part("result"))
    night.drill(QUIET_HZ, 1.0, without=odd)
    night.see("A tool sends garbage")
    site.wait_answered(night.sent)
    night.is_over("FarmMessagesRefused")

    with night.drilling(BUSY_HZ):  # as long as somebody looks
        night.see("The backlog grows")
    night.order("scale", 8)
    night.is_over("FarmFallingBehind")
    site.wait_answered(night.sent)

    night.mosquitto.stop()
    night.see("mosquitto goes away")
    night.mosquitto.start()
    night.is_over("FarmMqttDown")
    night.drill(QUIET_HZ, 1.0)
    site.wait_answered(night.sent)
    # around its restart MQTT may deliver again, byte for byte, what was not acknowledged
    assert_one_answer_each(site, night.sent, repeats_allowed=True)
    holes = night.farm.stats()["holes"]
    assert holes["arrived"] == len(night.sent) + 1 == holes["published"] + holes["dead"]
