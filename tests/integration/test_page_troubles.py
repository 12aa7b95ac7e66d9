"""What a browser shows when it is refused, and that nothing moves under its user's hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from browser import PATIENCE_MS, Watched
from dashboards import dashboard, history
from playwright.sync_api import expect
from rig import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page, Route

TOKEN, OTHER_TOKEN = "0123456789abcdef-token", "fedcba9876543210-token"


def log_in(page: Page, token: str) -> None:
    """Fill in the form."""
    page.get_by_label("Token").fill(token)
    page.keyboard.press("Enter")


def test_a_browser_that_is_refused_is_told_why(
    short_path: Path, watch: Callable[..., Watched]
) -> None:
    """Prevents: a list that calls itself live and hears nothing, a token that ran out unnoticed."""
    history(short_path, 60)
    with dashboard(short_path, token=TOKEN, max_viewers=1) as base:
        first = watch(base).open("/?q=unit-3")
        log_in(first, TOKEN)
        first.wait_for_url("**/?q=unit-3")
        expect(first.locator("#banner")).to_contain_text("the journal of one that has stopped")
        # by the link as by the row: back to the same filter, with the hole chosen
        first.locator("td.id a").first.click()
        first.wait_for_url("**/hole/*")
        expect(first.locator(".chart")).to_contain_text("no trace to draw")  # then it has its keys
        first.keyboard.press("Escape")
        first.wait_for_url("**/?q=unit-3")
        expect(first.locator("tr.selected")).to_be_focused()

        watched = watch(base)
        second = watched.open("/?q=unit-3")
        log_in(second, TOKEN)
        expect(second.locator("#banner")).to_contain_text("raise page.max_viewers")
        expect(second.locator(".following")).to_be_hidden()
        watched.shoot("refused")
        port = int(base.rpartition(":")[2])
    with dashboard(short_path, token=OTHER_TOKEN, port=port):
        first.wait_for_url("**/login?next=*", timeout=PATIENCE_MS)
        log_in(first, OTHER_TOKEN)
        first.wait_for_url("**/?q=unit-3")


def test_nothing_moves_under_the_hand_and_old_files_are_replaced(
    short_path: Path, watch: Callable[..., Watched]
) -> None:
    """Prevents: a row that goes from under the mouse, a focus that is lost each two seconds."""
    history(short_path, 40)
    with dashboard(short_path) as base:
        watched = watch(base)
        page = watched.open("/tools")
        rows = page.locator("table.tools tbody tr")
        expect(rows).to_have_count(21)
        expect(rows.nth(2)).to_contain_text("UNIT-14")  # by name: of BOX-0 0, 7 and 14
        page.keyboard.press("j")
        page.keyboard.press("j")
        expect(rows.nth(1)).to_be_focused()
        expect(rows.nth(1).locator("td").nth(2)).to_have_text("2")
        history(short_path, 21, first=40)
        expect(rows.nth(1).locator("td").nth(2)).to_have_text("3", timeout=PATIENCE_MS)
        expect(rows.nth(1)).to_be_focused()
        watched.shoot("tools-chosen")
        page.keyboard.press("Enter")
        page.wait_for_url("**/tool?source=*UNIT-7")
        zooms_in_height(page)
        assert watched.errors == []

        # the server has files of another version meanwhile
        page = watch(base).page
        page.route("**/live.js", lambda route: route.fulfill(status=404))
        page.goto(f"{base}/")
        expect(page.locator("table.holes tbody tr")).to_have_count(61)
        page.route(f"{base}/", lambda route: route.fulfill(body="<p id=fresh>fresh</p>"))
        page.route(f"{base}/live", lambda route: route.fulfill(
            body="<p id=fresh>fresh</p>", content_type="text/html"
        ))  # fmt: skip
        page.keyboard.press("4")
        expect(page.locator("#fresh")).to_have_text("fresh")


def zooms_in_height(page: Page) -> None:
    """A zoom to a stretch where little happens shows it, with the common zero."""
    found = page.evaluate(
        """async () => {
          const script = document.querySelector("script[type=module]").src;
          const { HoleChart, ready } = await import(new URL("charts.js", script));
          await ready;
          const place = document.createElement("div");
          document.querySelector("main").append(place);
          const at = Array.from({ length: 101 }, (_, i) => i / 10);
          const series = [{ name: "a", unit: "A", values: at.map((x) => (x < 8 ? 1 : 100)) },
            { name: "b", unit: "A", values: at.map((x) => (x < 8 ? 5 : 9)) }];
          const views = [{ name: "position", unit: "mm", at, marks: [], layers: [], steps: [] }];
          const chart = new HoleChart(place, { views, series, fields: [] });
          const settled = () => new Promise((done) => setTimeout(done));
          const limits = async () => {
            await settled();
            const { y0, y1 } = chart.chart.scales;
            return [y0.max, y1.max, y0.min / y0.max - y1.min / y1.max];
          };
          const whole = await limits();
          chart.zoom({ at: 3 });
          const part = await limits();
          chart.zoom(null);
          const again = await limits();
          chart.end();
          return { whole, part, again };
        }"""
    )
    assert found["whole"] == pytest.approx([120, 10.8, 0])
    assert found["part"] == pytest.approx([1.2, 6, 0])
    assert found["again"] == found["whole"]


def event(name: str, data: Any) -> str:
    """As the server sends it."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def test_a_farm_without_a_journal_and_a_stream_whose_time_is_over(
    short_path: Path, watch: Callable[..., Watched]
) -> None:
    """Prevents: an alarm for what was chosen, and one for each stream that ends as it should."""
    farm = {
        "state": "HEALTHY", "problems": [], "instance": "line-7", "workers": [],
        "workers_expected": 0, "throughput": {"backlog": 0, "pace": "HEALTHY"},
        "mqtt": {"state": "connected"}, "dead_letters": 0, "journal": {"durability": "off"},
    }  # fmt: skip
    journal = {"edition": "1", "newest": "", "kept": 0, "problem": "there is no journal"}
    now = {"now_s": 1.7e9, "is_silent": False, "answered_s": 1.7e9, "problem": "", "farm": farm,
           "sample": None, "journal": journal}  # fmt: skip
    asked: list[str] = []
    with dashboard(short_path) as base:
        watched = watch(base)
        page = watched.page

        def stream(route: Route) -> None:
            asked.append(route.request.url)
            if len(asked) == 1:
                body = event("now", now) + event("again", 0)
                route.fulfill(body=body, content_type="text/event-stream")
            # the second one is open, and nothing comes

        page.route("**/events", stream)
        watched.open()
        expect(page.locator("#strip")).to_contain_text("no journal is kept")
        expect(page.locator("#banner")).to_be_hidden()
        expect(page.locator(".empty")).to_contain_text("This farm keeps no journal")
        eventually(lambda: len(asked) == 2, 20, "the browser connects again")
        assert page.evaluate(
            """async () => {
              const script = document.querySelector("script[type=module]").src;
              return (await import(new URL("feed.js", script))).state.lostSince;
            }"""
        ) is None  # fmt: skip
        watched.shoot("no-journal")
        assert watched.errors == []
        page.unroute_all(behavior="ignoreErrors")
