"""The page's application, over a journal of simulated holes."""

from __future__ import annotations

import json
import re

import journals
import pages
import pytest
from pages import BASE, Page, drilled_hole, written

from farm.errors import JournalBusyError
from farm.page.app import MAX_ROWS
from farm.page.feed import RETRY_MS
from farm.page.statics import FOLDER, Statics

TOKEN = "0123456789abcdef0123"
PREFIX = Statics().prefix
HOSTILE = '<img src=x onerror="alert(1)">'
PATHS = ("/", "/live", "/tools", "/tool?source=x", "/dead", "/hole/1-1", "/login",
         "/api/holes", "/api/tools", "/api/dead", "/api/holes/0-19")  # fmt: skip


@pytest.fixture
def store(tmp_path):
    made = journals.open_store(tmp_path)
    yield made
    made.close(is_clean=False)


@pytest.fixture
def page(tmp_path, store):
    """Holes 0-19 (published), 0-29 (a dead one of a hostile tool) and 0-39 (without a trace)."""
    dead = {"terminal": "dead", "status": "failed", "value": None}
    written(
        store,
        drilled_hole(10, part_id="101"),
        drilled_hole(20, source=f"B/{HOSTILE}", part_id=HOSTILE, reason=HOSTILE, **dead),
        drilled_hole(30, part_id="103", kinds=("result",), reason="Not paired", **dead),
    )
    return Page(tmp_path)


def test_the_list_has_what_the_journal_has(page):
    found = page.get("/api/holes")
    assert [row["id"] for row in found["holes"]] == ["103", HOSTILE, "101"]
    newest, _, oldest = found["holes"]
    assert (newest["outcome"], newest["reason"]) == ("dead", "Not paired")
    assert oldest["figures"] == {
        "depth": pytest.approx(15.25), "composite": pytest.approx(6.0),
        "metal": pytest.approx(9.25), "quality": 0.875,
    }  # fmt: skip
    assert (found["total"], found["outcomes"]) == (3, {"published": 1, "dead": 2})


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"outcome": "published"}, ["101"]),
        ({"outcome": "dead,published"}, ["103", HOSTILE, "101"]),
        ({"q": "10"}, ["103", "101"]),
        ({"q": "<IMG"}, [HOSTILE]),
        ({"tool": journals.SOURCE}, ["103", "101"]),
        ({"quality": "0.9"}, ["101"]),
        ({"quality": "0.5"}, []),
        ({"limit": "1"}, ["103"]),
        ({"limit": "1", "offset": "2"}, ["101"]),
        ({"upto": "0-29"}, [HOSTILE, "101"]),
        ({"limit": "0"}, []),
    ],
)
def test_filters_and_pages_are_in_the_address(page, asked, found):
    # prevents: a shared address that shows something else to its reader
    assert [row["id"] for row in page.get("/api/holes", **asked)["holes"]] == found


@pytest.mark.parametrize(
    "asked",
    [
        {"limit": str(MAX_ROWS + 1)}, {"limit": "-1"}, {"limit": "1e3"}, {"offset": "x"},
        {"limit": "\uff19"}, {"offset": "9" * 30}, {"outcome": "good"}, {"quality": "high"},
        {"upto": "12"}, {"q": "x" * 5000},
    ],
)  # fmt: skip
def test_what_can_not_be_meant_is_refused_with_a_sentence(page, asked):
    # prevents: an answer without bound, and a traceback for a mistyped address
    response = page.client.get("/api/holes", params=asked)
    assert response.status_code == 400
    assert response.json()["problem"]


@pytest.mark.parametrize("hole", ["0-999", "x", "1-1-1", "../etc", "9" * 30 + "-1", "1-²"])
def test_a_hole_that_is_none(page, hole):
    for path in ("", "/picture", "/parts/result"):
        response = page.client.get(f"/api/holes/{hole}{path}")
        assert response.status_code in (400, 404), path


def test_one_hole_tells_its_life_and_where_it_comes_from(page):
    found = page.get("/api/holes/0-19")
    assert [event["what"] for event in found["timeline"]] == ["arrived", "arrived", "confirmed"]
    times = [event["at_s"] for event in found["timeline"]]
    assert times == sorted(times)
    assert found["provenance"] == {"MachineId": "M-1"}
    assert (found["model_version"], found["model_hash"]) == ("rule-2", "f00d")
    assert [each["payload"] for each in found["publications"]] == ["[1]", "[2]"]
    assert (found["older"], found["newer"]) == (None, "0-39")
    assert ["configuration", "defaults"] in found["origin"]


def test_a_story_is_told_in_order_with_the_arrivals(tmp_path, store):
    # prevents: a timeline whose events stand in the order of their tables
    story = [[1000.0, 0, [[0.0, "first part", ""], [0.015, "paired", ""], [0.5, "claimed", "w"]]]]
    written(store, drilled_hole(10, story=story))
    events = Page(tmp_path).get("/api/holes/0-19")["timeline"]
    names = [event["what"] for event in events]
    assert names == ["arrived", "arrived", "paired", "claimed", "confirmed"]
    assert events[3]["at_s"] == pytest.approx(1000.5)


def test_an_open_hole_is_told_by_the_farm(tmp_path, store):
    # prevents: a hole that hangs, and a page that can't say where
    asked = []

    def story_of(*key):
        asked.append(key)
        return [[1000.0, 0, [[0.1, "dispatched", ""]]]]

    store.write(drilled_hole(10)[:3])
    page = Page(tmp_path, story_of=story_of)
    found = page.get("/api/holes/0-19")
    assert asked == [(journals.SOURCE, "7", "19")]
    assert (found["state"], found["timeline"][-1]["what"]) == ("open", "dispatched")
    assert page.get("/api/holes")["holes"][0]["outcome"] == "open"
    store.write(drilled_hole(10)[3:])
    page.look()
    assert page.get("/api/holes")["holes"][0]["outcome"] == "published"


def test_the_picture_has_the_trace_and_the_keypoints(page):
    found = page.get("/api/holes/0-19/picture")
    assert [series["name"] for series in found["series"]] == ["torque", "thrust"]
    by_position, by_time = found["views"]
    assert len(by_position["at"]) == len(by_time["at"]) == len(found["series"][0]["values"])
    assert by_position["at"] == sorted(by_position["at"])
    assert [m["at"] for m in by_position["marks"]] == pages.KEYPOINTS
    assert [layer["name"] for layer in by_position["layers"]] == ["composite", "metal"]


def test_a_hole_without_a_trace_says_so(page):
    found = page.get("/api/holes/0-39/picture")
    assert found == {"problem": "Trace: the message is missing"}


def test_the_raw_messages_can_be_taken_home(page):
    response = page.client.get("/api/holes/0-29/parts/trace")
    assert response.content == pages.simulated()["trace"]
    disposition = response.headers["content-disposition"]
    assert re.fullmatch(r'attachment; filename="[A-Za-z0-9_.-]+\.json"', disposition)
    assert response.headers["content-type"] == "application/json"
    assert page.client.get("/api/holes/0-29/parts/heads").status_code == 404


def test_a_tool_has_the_course_of_its_holes(page):
    found = page.get("/api/tool", source=journals.SOURCE)
    assert [hole["id"] for hole in found["trend"]] == ["101", "103"]
    assert [hole["is_paired"] for hole in found["trend"]] == [True, False]
    assert (found["parts"], found["unpaired_parts"]) == (3, 1)
    levels = page.get("/api/levels", source=journals.SOURCE)
    assert set(levels) == {"0-19"}
    assert set(levels["0-19"]) == {"torque_composite", "torque_metal"}
    assert page.client.get("/api/tool?source=none").status_code == 404


def test_the_tools_are_summed_up_once_for_all_browsers(page, store, monkeypatch):
    # prevents: a sum over all rows for each browser, while everybody else waits
    summed = []
    tools = page.index.tools
    monkeypatch.setattr(type(page.index), "tools", lambda _: summed.append(1) or tools())
    monkeypatch.setattr("farm.page.app.TOOLS_EVERY_S", 1000)
    first = [page.get("/api/tools") for _ in range(3)]
    assert (len(summed), first[0]["total"]) == (1, 2)
    assert first[1] == first[2] == first[0]
    written(store, drilled_hole(40, source="B/NEW"))
    page.look()
    assert page.get("/api/tools") == first[0]


def test_the_tools_are_summed_up_anew_when_something_has_changed(page, store, monkeypatch):
    monkeypatch.setattr("farm.page.app.TOOLS_EVERY_S", 0)
    assert page.get("/api/tools")["total"] == 2
    written(store, drilled_hole(40, source="B/NEW"))
    page.look()
    assert page.get("/api/tools")["total"] == 3


def test_dead_letters_come_newest_first_in_pieces(page):
    first = page.get("/api/dead", limit=1)
    assert (first["total"], [one["hole"] for one in first["letters"]]) == (2, ["0-39"])
    second = page.get("/api/dead", before="0-39")
    assert [one["reason"] for one in second["letters"]] == [HOSTILE]


def test_no_answer_lets_a_browser_take_text_for_markup(page):
    # prevents: a tool's name that becomes a script (XSS)
    for path in PATHS:
        response = page.client.get(path)
        kind = response.headers["content-type"]
        if kind.startswith("text/html"):
            assert "onerror" not in response.text, path  # the shells have no data in them
        else:
            assert kind.startswith("application/json"), path
        assert response.headers["x-content-type-options"] == "nosniff"


def test_every_answer_has_a_strict_policy(page):
    # prevents: one path, or one error, on which injected markup would run
    for path in (*PATHS, f"{PREFIX}/app.js", "/static/x/app.js", "/nowhere", "/api/holes?limit=x"):
        policy = page.client.get(path).headers["content-security-policy"]
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        assert rules["default-src"] == "'none'"
        assert rules["script-src"] == rules["style-src"] == "'self'"
        assert rules["frame-ancestors"] == rules["base-uri"] == "'none'"
        assert "unsafe" not in policy


def test_our_own_pages_obey_the_policy():
    # prevents: inline scripts, handlers and styles, which the policy shuts off
    for path in FOLDER.glob("*.html"):
        text = path.read_text()
        assert not re.search(r"\son\w+=|\sstyle=|javascript:|<style", text), path
        assert re.findall(r"<script(?![^>]*\s(?:src=|type=.application/json))", text) == []
        assert not re.search(r'(?:src|href)="(?:https?:)?//', text)
    for path in FOLDER.glob("*.js"):
        text = path.read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
        assert not re.search(r"https?://", text), path


def test_nothing_can_be_written(page):
    # prevents: a page that only reads, but for one forgotten method
    for path in PATHS:
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert page.client.request(method, path).status_code in (404, 405), (method, path)
        assert page.client.head(path).status_code in (200, 404)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": BASE}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_other_sites_get_nothing(page, headers, status):
    response = page.client.get("/api/holes", headers=headers)
    assert response.status_code == status
    assert "access-control-allow-origin" not in response.headers


def test_the_files_are_kept_for_good_under_a_name_of_their_own(page):
    shell = page.client.get("/")
    assert shell.headers["cache-control"] == "no-cache"
    names = re.findall(r'(?:src|href)="(/static/[^"]+)"', shell.text)
    assert len(names) >= 10
    for name in names:
        response = page.client.get(name)
        assert response.status_code == 200, name
        assert "immutable" in response.headers["cache-control"]
    loaded = {name.rpartition("/")[2] for name in names}
    scripts = {path.name: path.read_text() for path in FOLDER.glob("*.js")}
    later = {name for text in scripts.values() for name in re.findall(r'import\("./(.+?)"\)', text)}
    # what is needed at first is fetched at once, not one module after the other
    assert set(scripts) - later - {"charts.js"} <= loaded
    for name in ("../app.py", "%2e%2e/app.py", "/etc/passwd"):
        assert page.client.get(f"{PREFIX}/{name}").status_code == 404


def test_a_file_of_another_version_is_none(page):
    # prevents: a browser that is given the new script under the old name, and keeps it for a year
    assert page.client.get(f"{PREFIX}/app.js").status_code == 200
    for path in ("/static/x/app.js", "/static/0123456789abcdef/uplot/uPlot.min.js"):
        response = page.client.get(path)
        assert response.status_code == 404
        assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/nowhere", "/hole/", "/hole/%E0%A4/x", "/login", "/favicon.ico"])
def test_an_address_that_is_none_is_a_page_that_says_so(page, path):
    # prevents: bare text for a mistyped address, and a form for a token that there is not
    response = page.client.get(path)
    assert response.status_code == 404
    assert '<main id="view"' in response.text
    assert page.client.get("/api/nothing").json()["problem"]


def test_an_answer_that_mqtt_refused_is_not_called_confirmed(tmp_path, store):
    store.write(drilled_hole(10)[:-1])
    store.write([journals.ended(19, at_s=9000.0, refusals="too large")])
    [*_, last] = Page(tmp_path).get("/api/holes/0-19")["timeline"]
    assert (last["what"], last["detail"]) == ("refused", "too large")


def test_a_trace_that_can_not_be_read_now_is_tried_again(page, monkeypatch):
    # prevents: a gap in a tool's trend for good, because the disk was busy for a moment
    def parts(*_):
        raise JournalBusyError("too many files are open")

    with monkeypatch.context() as patch:
        patch.setattr("farm.journal.tail.JournalTail.parts", parts)
        assert page.get("/api/levels", source=journals.SOURCE) == {}
    assert set(page.get("/api/levels", source=journals.SOURCE)) == {"0-19"}


def test_what_comes_with_the_page_can_not_become_a_script(tmp_path):
    # prevents: an adapter's column whose name ends the block of data and begins a script
    hostile = "</script><script>alert(1)</script>"
    statics = Statics(json.dumps({"name": hostile}).encode())
    shell = statics.get("index.html").content.decode()
    assert "<script>" not in shell
    block = re.search(r'<script type="application/json" id="about">(.*?)</script>', shell)
    assert json.loads(block[1]) == {"name": hostile}


def test_no_words_of_one_traffic_stand_in_the_scripts():
    # prevents: another plant's welds with a depth in mm, CFRP and a torque
    words = re.compile(r"CFRP|0\.5 mm|Torque level|figures\.depth|composite|\"metal\"")
    for path in FOLDER.glob("*.js"):
        assert not words.search(path.read_text()), path


def test_more_browsers_than_may_be_are_told_so(page):
    page.feed.viewers = 2
    response = page.client.get("/events")
    assert response.status_code == 503
    assert "page.max_viewers" in response.json()["problem"]


def test_the_stream_begins_with_the_history(page):
    # prevents: a browser that connects and sees an empty chart for five minutes
    page.feed.rates.samples.append([1.0, 2.0, 3.0, 4])
    page.feed.is_closing = True  # it ends after its beginning
    response = page.client.get("/events")
    first, second = response.text.strip().split("\n\n")
    assert first == f"retry: {RETRY_MS}"
    assert second == "event: history\ndata: [[1.0,2.0,3.0,4]]"
    assert page.feed.viewers == 0


def test_a_stream_ends_with_the_word_to_connect_again(page, monkeypatch):
    # prevents: an answer that is cut off every half hour, which each browser shows as a failure
    monkeypatch.setattr("farm.page.app.STREAM_LIFE_S", 0)
    monkeypatch.setattr("farm.page.app.STREAM_JITTER_S", 0)
    response = page.client.get("/events")
    assert response.text.startswith(f"retry: {RETRY_MS}")
    assert response.text.endswith("event: again\ndata: 0\n\n")
    assert page.feed.viewers == 0


def test_without_a_journal_the_page_says_why(tmp_path):
    page = Page(tmp_path)
    assert "there is no journal" in page.look()
    assert page.get("/api/holes")["total"] == 0
    response = page.client.get("/api/dead")
    assert response.status_code == 503
    assert "there is no journal" in response.json()["problem"]


def test_an_answer_with_what_json_lacks_is_still_told(tmp_path, store):
    # prevents: NaN on the wire, which no browser reads, and bytes that end the answer
    value = {"keypoints_mm": [float("nan"), 1.0], "raw": b"\xff", 7: "seven", "quality": 0.5}
    written(store, drilled_hole(10, value=value))
    page = Page(tmp_path)
    for path in ("/api/holes", "/api/holes/0-19", "/api/holes/0-19/picture"):
        response = page.client.get(path)
        assert response.status_code == 200, response.text
        json.loads(response.text, parse_constant=pytest.fail)
