"""The page of a real farm in a real browser, its pictures, and what it does when parts die.

The pictures go to build/screens; to make them alone:

    bin/test tests/integration/test_page.py -k pictures
"""

from __future__ import annotations

import json
import os
import re
import signal
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from browser import PATIENCE_MS, Watched
from dashboards import dashboard, history, served
from playwright.sync_api import expect
from rig import (
    KEYPOINTS,
    KIND_OF_TAIL,
    Sent,
    Tool,
    eventually,
)

from farm.simulation.drilled import Recipe, series
from farm.simulation.ports import free_port
from farm.simulation.restamp import HoleTemplate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page
    from rig import Farm, Mosquitto, Site

RECIPES = [
    Recipe("MDB", "2025-03"), Recipe("V8", "2025-06"), Recipe("V1-V5", "2025-03", faults=1.0),
    Recipe("HAM", "2025-03"), Recipe("V6-V7", "2025-06", single_step=True),
    Recipe("MQL", "2025-06"),
]  # fmt: skip
HOSTILE_TOOL = "<img src=x onerror=document.title=7>"
HOSTILE_ID = "<b>7</b>"
OF_HOSTILE_ID = 55  # a hole of the hostile tool, in a style whose ids are texts
TOOLS = [("BOX-1", "UNIT-11"), ("BOX-1", "UNIT-12"), ("BOX-2", "UNIT-21"), ("BOX-2", HOSTILE_TOOL)]
DARK = {"desktop": ("list", "hole", "live"), "phone": ("hole",)}  # pictures in the dark
TOKEN = "0123456789abcdef-token"
MANY = 10_000
NOTHING_LEFT = "() => document.querySelectorAll('main img, main script, main b b').length"


def drill_some(site: Site, count: int) -> None:
    """Holes of several programs, some bad, by four tools; and one without a trace."""
    templates = [HoleTemplate(hole.messages) for hole in series(RECIPES, count=12, seed=5)]
    bound = [[t.bind(toolbox=box, tool=tool) for t in templates] for box, tool in TOOLS]
    for number in range(count):
        holes = bound[number % len(TOOLS)]
        result_id = HOSTILE_ID if number == OF_HOSTILE_ID else str(100 + number)
        stamped = holes[(number // len(TOOLS)) % len(holes)].stamp(result_id)
        parts = [Sent(KIND_OF_TAIL[t.split("/", 3)[3]], t, payload) for t, payload in stamped]
        site.send(*(parts[:1] if number == 5 else parts))
    site.wait_acknowledged()


def ended(farm: Farm) -> int:
    """Holes that have reached their end."""
    return farm.stats().get("jobs", {"completed": 0})["completed"]


def rows(page: Page) -> Any:
    return page.locator("table.holes tbody tr")


def drawn_colours(page: Page) -> int:
    """How many colours are on the first canvas: one that stayed empty has one."""
    return page.evaluate(
        """() => {
          const canvas = document.querySelector("canvas");
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return new Set(new Uint32Array(data.buffer)).size;
        }"""
    )


def test_the_pages_of_a_running_farm_and_their_pictures(
    mosquitto: Mosquitto,
    site: Site,
    start_farm: Callable[..., Farm],
    watch: Callable[..., Watched],
) -> None:
    """Prevents: a page that is blank, too wide, deaf to keys, or runs what a stranger wrote."""
    port = free_port()
    farm = start_farm(
        mosquitto.port, model="", instance="line-7", page={"listen": f"127.0.0.1:{port}"},
        mqtt={"listener": {"time_window": 2}}, correlation={"optional_wait_s": 0.1},
    )  # fmt: skip
    drill_some(site, 60)
    eventually(lambda: ended(farm) == 60, 60, lambda: f"60 holes ended: {farm.stats()}")
    base = served(port)
    for size, scheme in (
        ("desktop", "light"),
        ("desktop", "dark"),
        ("phone", "light"),
        ("phone", "dark"),
    ):
        watched = watch(base, size=size, scheme=scheme)
        visit(watched)
        assert watched.errors == []
    watched = watch(base)
    use_the_keys(watched.open(), watched)
    strangers_names_are_text(watched)
    the_answer_is_what_was_published(watched, site)
    narrow(watched)
    assert watched.errors == []


def visit(watched: Watched) -> None:
    """Every page once, with its picture."""
    page = watched.open("/")
    expect(rows(page)).to_have_count(60)
    expect(page.locator("#strip .state")).to_have_text("healthy")
    published = page.locator("tr", has=page.locator("[data-outcome=published]"))
    steps: list[tuple[str, str, Callable[[], None]]] = [
        ("list", "table.holes tbody tr", lambda: None),
        ("hole", "canvas", published.filter(has_text="UNIT-11").first.click),
        ("tools", "table.tools tbody tr", lambda: page.keyboard.press("2")),
        ("tool", "canvas", page.locator('td a[href$="UNIT-11"]').click),
        ("dead", "table.dead tbody tr", lambda: page.keyboard.press("3")),
        ("live", "canvas", lambda: page.keyboard.press("4")),
    ]
    for name, sign, go in steps:
        if watched.scheme == "dark" and name not in DARK[watched.size]:
            continue
        go()
        page.wait_for_selector(sign)
        if name == "tool":
            expect(page.locator("canvas")).to_have_count(6)  # the torque's level came, too
        if sign == "canvas":
            eventually(lambda: drawn_colours(page) > 5, 10, f"something is drawn on {name}")
        watched.shoot(name)
        if name in ("hole", "tool") and watched.scheme == "light":
            watched.shoot(f"{name}-whole", is_whole=True)


def use_the_keys(page: Page, watched: Watched) -> None:
    """All that can be done with a mouse can be done without."""
    expect(rows(page)).to_have_count(60)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("j")
    chosen = page.locator("tr.selected")
    expect(chosen).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    hole = chosen.get_attribute("data-hole")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/hole/{hole}")
    page.wait_for_selector("canvas")
    page.get_by_role("button", name="time", exact=True).click()
    expect(page.get_by_role("button", name="time", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    watched.shoot("hole-time")
    page.keyboard.press("Escape")
    expect(page.locator(f'tr.selected[data-hole="{hole}"]')).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.type("unit-12")
    expect(rows(page)).to_have_count(15)
    page.wait_for_url("**/?q=unit-12")
    page.reload()
    expect(rows(page)).to_have_count(15)
    page.locator('.chip[data-name="dead"]').click()
    expect(rows(page)).to_have_count(1)
    watched.shoot("list-filtered")
    page.keyboard.press("?")
    expect(page.locator("dialog")).to_be_visible()
    watched.shoot("help")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    page.keyboard.press("t")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.keyboard.press("3")
    page.wait_for_url("**/dead")
    expect(page.locator("tbody tr")).to_contain_text("no trace arrived")


def strangers_names_are_text(watched: Watched) -> None:
    """A tool and a hole whose names are markup."""
    page = watched.open("/tools")
    page.get_by_text(HOSTILE_TOOL).click()
    expect(page.locator("h1")).to_have_text(f"BOX-2/{HOSTILE_TOOL}")
    page.get_by_text("all its holes").click()
    expect(rows(page)).to_have_count(15)
    page.get_by_role("link", name=HOSTILE_ID).click(force=True)
    expect(page.locator("h1")).to_contain_text(HOSTILE_ID)
    page.wait_for_selector("canvas")
    assert page.evaluate(NOTHING_LEFT) == 0
    assert page.title() == f"BOX-2/{HOSTILE_TOOL} {HOSTILE_ID} · farm"


def the_answer_is_what_was_published(watched: Watched, site: Site) -> None:
    """The bytes on the page are those that MQTT had."""
    page = watched.open("/?q=100")
    rows(page).first.click()
    shown = page.locator("pre").first.inner_text()
    heard = site.answers()["BOX-1/UNIT-11", "100"][KEYPOINTS][0]
    assert json.loads(shown) == heard.body
    entry = page.locator(".mark[data-mark=entry]").inner_text()
    assert float(re.findall(r"[\d.]+", entry)[0]) == pytest.approx(
        heard.body["Value"][0], abs=0.006
    )
    with page.expect_download() as started:
        page.get_by_role("link", name="download").first.click()
    assert started.value.suggested_filename.endswith(".json")


def narrow(watched: Watched) -> None:
    """The narrowest phone."""
    watched.page.set_viewport_size({"width": 360, "height": 640})
    for path in ("/", "/tools", "/tool?source=BOX-2%2FUNIT-21", "/dead", "/live"):
        page = watched.open(path)
        page.wait_for_selector("canvas" if path == "/live" or "tool?" in path else "tbody tr")
        assert watched.overflow() == 0, path
    page = watched.open("/?outcome=published")
    rows(page).first.click()
    page.wait_for_selector("canvas")
    assert watched.overflow() == 0


def test_the_page_comes_back_and_the_farm_never_notices(
    mosquitto: Mosquitto,
    site: Site,
    start_farm: Callable[..., Farm],
    watch: Callable[..., Watched],
) -> None:
    """Prevents: a page whose end, or whose broker's, needs somebody to reload or restart it."""
    port = free_port()
    farm = start_farm(mosquitto.port, workers=1, page={"listen": f"127.0.0.1:{port}"})
    tool = Tool()
    first, second = tool.drill(), tool.drill()
    site.send_hole(first)
    site.wait_answered([first])
    watched = watch(served(port))
    page = watched.open()
    expect(rows(page)).to_have_count(1)
    banner = page.locator("#banner")
    expect(banner).to_be_hidden()

    broker = farm.broker_pid()
    os.kill(broker, signal.SIGSTOP)
    expect(banner).to_contain_text("The farm does not answer since")
    watched.shoot("silent")
    os.kill(broker, signal.SIGCONT)
    expect(banner).to_be_hidden(timeout=PATIENCE_MS)

    [process] = [c for c in psutil.Process(farm.pid).children() if "dashboard" in c.cmdline()]
    os.kill(farm.pid, signal.SIGSTOP)  # else the page is back before anybody misses it
    process.kill()
    expect(banner).to_contain_text("The page's own process does not answer", timeout=PATIENCE_MS)
    expect(page.locator(".following")).to_be_hidden()
    os.kill(farm.pid, signal.SIGCONT)
    site.send_hole(second)
    site.wait_answered([second])
    assert farm.broker_pid() == broker
    expect(banner).to_be_hidden(timeout=PATIENCE_MS)
    expect(rows(page)).to_have_count(2)

    # what was chosen stays where it is, also over a look at it, and what is new is counted
    page.keyboard.press("j")
    third = tool.drill()
    site.send_hole(third)
    expect(page.locator(".newer")).to_contain_text("1 new", timeout=PATIENCE_MS)
    page.keyboard.press("Enter")
    page.wait_for_selector("canvas")
    page.keyboard.press("Escape")
    expect(page.locator("tr.selected")).to_be_focused()
    expect(rows(page)).to_have_count(2)
    page.keyboard.press("Escape")
    expect(rows(page)).to_have_count(3)
    [ended_line] = farm.events("process_ended")
    assert (ended_line["child"], ended_line["effect"]) == ("page", "none on the farm")


def test_ten_thousand_holes_of_a_farm_that_has_stopped_behind_a_token(
    short_path: Path, watch: Callable[..., Watched]
) -> None:
    """Prevents: a list that is slow or ends early, and a page that anybody may read."""
    history(short_path, MANY)
    with dashboard(short_path, token=TOKEN) as base:
        walk_through_many(watch(base))


def walk_through_many(watched: Watched) -> None:
    """Log in, turn pages, filter."""
    page = watched.open("/?quality=0.5")
    page.wait_for_url("**/login?next=*")
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Open").click()
    expect(page.locator("#wrong")).to_be_visible()
    watched.shoot("login")
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(rows(page)).to_have_count(100)
    page.wait_for_url("**/?quality=0.5")  # where one wanted to
    page.get_by_label("Quality").select_option("")
    expect(page.locator("#banner")).to_contain_text("the journal of one that has stopped")
    expect(page.locator(".count-line")).to_contain_text("1 to 100 of the last 10,000 holes")
    page.keyboard.press("n")
    expect(page.locator(".count-line")).to_contain_text("101 to 200")
    expect(rows(page).first).to_contain_text(str(MANY - 101))
    page.keyboard.press("End")
    page.keyboard.press("j")
    expect(page.locator(".count-line")).to_contain_text("201 to 300")
    page = watched.open("/?page=100")
    expect(rows(page).last).to_contain_text("UNIT-0")
    page = watched.open("/?quality=0.5&q=unit-3")
    total = sum(n % 21 == 3 and n % 100 < 50 for n in range(MANY))
    expect(page.locator(".count-line")).to_contain_text(f"of {total} that fit")
    assert watched.errors == []
