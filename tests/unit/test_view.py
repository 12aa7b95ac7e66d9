"""`farm stats` as drawn: whole cells and whole lines at every width, and again and again."""

from __future__ import annotations

import io
import json
import re

import pytest
from click.testing import CliRunner
from rich.cells import cell_len
from rich.console import Console
from shots import busy_shot, farm_shot

from farm.cli import root, stats
from farm.errors import NoFarmError
from farm.supervisor.nursery import State
from farm.telemetry.keyboard import Looking, Page
from farm.telemetry.lines import ASCII, text_of, width_of
from farm.telemetry.view import render, screen, whole
from farm.telemetry.words import STAGE_WORDS

WIDTHS = [40, 60, 80, 110, 130, 150, 160, 200]


@pytest.fixture
def shot():
    return farm_shot(failed_slots=[(3, "exit code 8 (model)")])


@pytest.fixture(scope="module")
def both():
    """A farm in trouble with many tools, and one with long names; not to be changed."""
    return busy_shot(is_behind=True, tools=60), farm_shot()


def drawn(shot, width):
    return [text_of(each) for each in whole(shot, width)]


def squeezed(lines):
    return [" ".join(line.split()) for line in lines]


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_too_long_and_no_cell_is_broken(shot, width):
    # prevents: a table whose cells wrap, so that no line of it can be read
    lines = drawn(shot, width)
    assert max(map(cell_len, lines)) <= width
    for stage in shot["latency"]:
        cells = f"{stage} 1234 12345"
        if width >= 60:
            cells += " 99900 123456"
        if width >= 80:
            cells += f" {STAGE_WORDS[stage]}" if width < 110 else f" 9999999 {STAGE_WORDS[stage]}"
        assert any(line.startswith(cells) for line in squeezed(lines)), "\n".join(lines)
    for row in shot["workers"]:
        cells = f"{row['name']} draining"
        if width >= 80:
            cells += " 12 s …0007 107 +15" if width == 80 else " 12 s"
        found = [line for line in squeezed(lines) if line.startswith(cells)]
        assert found, "\n".join(lines)
        if width >= 80:
            assert "0.0 1234567 0 312 MB" in found[0]
        if width >= 160:
            assert f"24 h drill-host-07.p… - depthnet-1 h1h1h1h1 {row['pid']}" in found[0]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("height", [5, 10, 24, 50])
def test_a_screen_has_just_its_size_whatever_is_shown(both, width, height):
    # prevents: a picture that scrolls the terminal, or leaves lines of the one before
    for page in Page:
        for made in both:
            picture = screen(made, Looking(page=page), width, height, clock="14:03:22")
            assert len(picture.lines) == height
            assert all(width_of(each) <= width for each in picture.lines)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_column_moves_when_numbers_grow(width):
    # prevents: columns that jump once a second
    small, large = busy_shot(), busy_shot()
    for row in large["workers"]:
        row.update(jobs_done=99_999_999_999, rate_hz=12_345.6, rss_bytes=10**12, up_s=10**8)
    for row in large["tools"]["rows"]:
        row.update(parts_hz=12_345.6, holes=10**11, dead=10**11, rejected=10**11, troubles=10**11)
    for page in (Page.WORKERS, Page.TOOLS):
        heads = [
            next(each for each in map(text_of, screen(made, Looking(page=page), width, 40).lines)
                 if each.startswith(("worker▲", "tool ")))
            for made in (small, large)
        ]  # fmt: skip
        assert heads[0] == heads[1]


def test_the_end_of_a_long_page_is_reached_and_not_passed():
    # prevents: rows that nobody can see, or a page scrolled into nothing
    made = busy_shot(tools=60)
    first = screen(made, Looking(page=Page.TOOLS), 80, 24)
    assert "below" in text_of(first.lines[-1])
    last = screen(made, Looking(page=Page.TOOLS, scroll=1_000_000), 80, 24)
    assert last.scroll > 0
    assert "above" in text_of(last.lines[-1])
    assert "below" not in text_of(last.lines[-1])
    seen = " ".join(map(text_of, [*first.lines, *last.lines]))
    assert seen.count("UNIT-0666") == 1


def test_a_filter_and_an_order_choose_the_rows():
    # prevents: a filter that hides what it should show, a sort that sorts by something else
    made = busy_shot()
    only = screen(made, Looking(page=Page.TOOLS, filter="rubbish-not-there"), 80, 24)
    assert not [each for each in map(text_of, only.lines) if "UNIT-" in each]
    found = screen(made, Looking(page=Page.TOOLS, filter="not paired"), 160, 24)
    assert len([each for each in map(text_of, found.lines) if "/UNIT-" in each]) == 1

    def first_tool(sort, *, is_reversed=False):
        looking = Looking(page=Page.TOOLS, tool_sort=sort, is_tool_reversed=is_reversed)
        lines = map(text_of, screen(made, looking, 160, 40).lines)
        return next(line for line in lines if "/UNIT-" in line).split()[0]

    assert first_tool(0) == "BOX-9/UNIT-0666"  # the worst
    assert first_tool(1) == "BOX-3/UNIT-0011"  # the loudest
    assert first_tool(1, is_reversed=True) == "BOX-9/UNIT-0666"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", [Page.WORKERS, Page.TOOLS])
def test_a_table_is_sorted_by_what_is_seen_of_it(page, width):
    # prevents: five presses of `s` that do nothing to be seen, and an order without a reason
    made, seen = busy_shot(), []
    for sort in range(20):  # more than there are columns
        looking = Looking(page=page, worker_sort=sort, tool_sort=sort)
        lines = [text_of(each) for each in screen(made, looking, width, 40).lines]
        [title] = [each for each in lines if ", by " in each]
        column = title.split(", by ")[1].split("  ")[0]
        assert any(f"{column}{mark}" in each for each in lines for mark in "▲▼"), lines
        seen.append(column)
    around = len(set(seen))
    assert around > 2
    assert seen[around:] == seen[: 20 - around], "each once, and then from the first"


def screen_text(made, width=80, height=24, **looking):
    lines = screen(made, Looking(**looking), width, height).lines
    return [text_of(each).rstrip() for each in lines]


@pytest.mark.parametrize("page", [Page.OVERVIEW, Page.WORKERS, Page.TOOLS, Page.DEAD])
@pytest.mark.parametrize("width", [80, 160])
def test_a_filter_that_leaves_nothing_says_so(page, width):
    # prevents: an overview without its tables, and no word of the filter that took them away
    told = "nothing matches 'zzz' (Esc shows all)"
    assert any(told in each for each in screen_text(busy_shot(), width, page=page, filter="zzz"))
    assert not any("nothing matches" in each for each in screen_text(busy_shot(), width, page=page))


@pytest.mark.parametrize("page", list(Page))
@pytest.mark.parametrize("text", ["", "abc", "x" * 60])
def test_how_to_quit_is_told_beside_a_filter(page, text):
    # prevents: a user who is caught in the view, since a filter took the last key's place
    foot = screen_text(busy_shot(tools=60), page=page, filter=text, is_paused=True)[-1]
    assert re.search(r" q( quit)?  ", f"{foot}  "), foot
    assert ("filter: " in foot) is bool(text)


@pytest.mark.parametrize("page", [Page.WORKERS, Page.TOOLS])
@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_hint_is_whole_or_not_there(page, width):
    # prevents: a title that ends with "r re…"
    [title] = [each for each in screen_text(busy_shot(), width, 12, page=page) if ", by " in each]
    assert "…" not in title
    assert ("s next column, r reverse, / filter" in title) is (width >= 60)


def test_a_wide_and_tall_overview_has_all_columns_of_the_worst_tools():
    # prevents: nineteen empty lines, and no room for why a tool is bad
    lines = screen_text(busy_shot(), 160, 60)
    [head] = [each for each in lines if each.startswith("tool")]
    for title in ("bad", "runs", "unsure", "quality", "silent", "last trouble"):
        assert title in head
    assert sum("The Result message is no JSON" in each or "UNIT-0666" in each for each in lines) > 1
    assert any("msg/s▼" in each for each in lines), "the loudest are there, too"
    assert any("last dead letters" in each for each in lines)
    low = screen_text(busy_shot(), 160, 35)
    assert any("bad▼" in each for each in low), "where there is no room below, they stay beside"


def test_what_was_seen_is_told_in_a_number_of_its_own():
    # prevents: a panel that says "1 workers fenced"
    made = busy_shot()
    made["counts"] |= {"workers_fenced": 1}
    assert "workers fenced: 1" in " ".join(screen_text(made, page=Page.LATENCY, height=60))


def test_where_the_locale_has_no_unicode_nothing_else_is_drawn():
    # prevents: question marks, or a UnicodeEncodeError, on a serial console
    made = busy_shot(is_behind=True)
    for page in Page:
        for width in (60, 80, 160):
            lines = screen(made, Looking(page=page, filter="x" * 50), width, 40, ASCII).lines
            assert "".join(map(text_of, lines)).isascii()
    assert "".join(map(text_of, whole(farm_shot(), 80, ASCII))).isascii()


def test_what_rich_draws_is_the_same_picture(shot):
    # prevents: a demo whose lines rich has wrapped or coloured by its own guesses
    out = io.StringIO()
    Console(file=out, width=80, highlight=False).print(render(shot, 80))
    assert [line.rstrip() for line in out.getvalue().splitlines()] == [
        line.rstrip() for line in drawn(shot, 80)
    ]


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"state": "ready"}, "nursery ready for 3 min 20 s: workers are forked"),
        (
            {"state": "ready", "made": 3, "cause": "killed by SIGKILL"},
            "nursery ready for 3 min 20 s: workers are forked; made anew 2 times",
        ),
        (
            {"state": "loading", "made": 2, "way": "wait"},
            "nursery loads for 3 min 20 s: workers wait for it; made anew once",
        ),
        (
            {"state": "absent", "cause": "killed by SIGKILL", "way": "exec"},
            "nursery none now (killed by SIGKILL); workers are launched by exec",
        ),
        ({"state": "absent", "way": "wait"}, "nursery none now; workers wait for the next one"),
        (
            {"state": "unfit", "cause": "the model keeps [a] open", "way": "exec"},
            "nursery of no use, the model keeps [a] open: workers are launched by exec",
        ),
        (
            {"state": "spoilt", "cause": "exit code 7 (model)", "way": "refused"},
            "nursery can't load the model: no worker is launched until it can",
        ),
        (
            {"state": "failed", "cause": "killed by SIGSEGV", "way": "exec"},
            "nursery given up (killed by SIGSEGV); workers are launched by exec",
        ),
        (
            {"state": "off", "for_s": None, "way": "exec"},
            "nursery off: workers are launched by exec",
        ),
    ],
)
def test_how_workers_are_launched_is_told(shot, told, line):
    # prevents: ten loaded models where one was meant, or slow restarts, and nothing says why
    shot["nursery"] = {"for_s": 200.0, "made": 1, "way": "fork", "cause": ""} | told
    assert line in squeezed(drawn(shot, 120))
    for width in (60, 80, 160):
        assert max(len(each) for each in drawn(shot, width)) <= width


@pytest.mark.parametrize("state", [state.value for state in State])
def test_each_state_of_a_nursery_has_its_words(shot, state):
    # prevents: a bare state on the screen, or a picture that can't be drawn
    shot["nursery"] = {"state": state, "for_s": 1.0, "made": 1, "way": "wait", "cause": ""}
    [line] = [each for each in drawn(shot, 120) if each.startswith("nursery")]
    assert len(line.split()) > 3


def test_a_broker_without_local_workers_says_nothing_of_a_nursery(shot):
    assert not [each for each in drawn(shot, 80) if each.startswith("nursery")]


def test_side_by_side_only_where_both_fit():
    made = busy_shot()
    for width, is_wide in ((149, False), (150, True)):
        lines = map(text_of, screen(made, Looking(), width, 60).lines)
        [head] = [each for each in lines if each.startswith("holes  ") and "now" in each]
        assert ("worker" in head) is is_wide


def watched(monkeypatch, shot, *options):
    """`farm stats --watch` off a terminal: there, away, there again, Ctrl-C."""
    turns = iter([shot, NoFarmError("away"), shot, KeyboardInterrupt()])

    def fetch(_endpoint):
        turn = next(turns)
        if isinstance(turn, BaseException):
            raise turn
        return turn

    monkeypatch.setattr(stats, "fetch_stats", fetch)
    return CliRunner().invoke(root, ["stats", *options])


def test_watching_off_a_terminal_prints_each_picture_and_outlasts_a_restart(monkeypatch, shot):
    # prevents: an empty file from `farm stats --watch 5 >file`
    done = watched(monkeypatch, shot, "--watch", "0.1")
    assert done.exit_code == 0
    before, gone, after = done.output.partition("the farm does not answer")
    assert gone
    assert before.count("latency, ms") == after.count("latency, ms") == 1
    assert "\x1b" not in done.output


def test_watching_for_machines_prints_json_alone(monkeypatch, shot):
    done = watched(monkeypatch, shot, "--watch", "0.1", "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [shot, shot]
    assert "the farm does not answer" in done.stderr


def test_a_stream_for_machines_has_a_line_for_each_look_and_says_when_nobody_answers(
    monkeypatch, shot
):
    # prevents: a gap in a record of a day that looks like a quiet farm
    done = watched(monkeypatch, shot, "--ndjson", "--interval", "0.1")
    first, gone, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert first == last == {key: value for key, value in shot.items() if key != "history"}
    assert gone["state"] == "MISSING"
    assert gone["problems"] == ["away"]
    assert gone["taken_utc_s"] > 1.7e9
    assert not done.stderr


@pytest.mark.parametrize("options", [("--once", "--ndjson"), ("--once", "--interval", "1")])
def test_one_picture_and_many_contradict_each_other(options):
    assert CliRunner().invoke(root, ["stats", *options]).exit_code == 2


def test_top_is_another_name_for_it(monkeypatch, shot):
    monkeypatch.setattr(stats, "fetch_stats", lambda _endpoint: shot)
    done = CliRunner().invoke(root, ["top", "--once"])
    assert "latency, ms" in done.output
    assert "top" not in CliRunner().invoke(root, ["--help"]).output.split()


@pytest.mark.parametrize(
    ("options", "environment", "has_escapes"),
    [
        ((), {}, False),
        (("--color",), {}, True),
        (("--color",), {"NO_COLOR": "1"}, True),
        (("--no-color",), {"TERM": "xterm"}, False),
    ],
)
def test_colours_are_only_where_they_are_wanted(
    monkeypatch, shot, options, environment, has_escapes
):
    # prevents: escapes in a ticket, a mail, a log file
    monkeypatch.setattr(stats, "fetch_stats", lambda _endpoint: shot)
    done = CliRunner(env=environment).invoke(root, ["stats", "--once", *options])
    assert ("\x1b[" in done.output) is has_escapes


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"alive": 4}, "on Ray 4 wanted, 4 alive"),
        (
            {"alive": 2, "pending": 1, "restarting": 1},
            "on Ray 4 wanted, 2 alive, 1 pending, 1 rest",
        ),
        ({"alive": 4, "leaving": 2}, "on Ray 4 wanted, 4 alive, 2 leaving"),
    ],
)
def test_the_workers_on_ray_are_told_in_a_line(shot, told, line):
    # prevents: a farm that has half of its workers, and nobody can see which half is missing
    fleet = {"wanted": 4, "alive": 0, "pending": 0, "restarting": 0, "leaving": 0, "cause": ""}
    shot["fleet"] = fleet | told
    assert any(each.startswith(line) for each in squeezed(drawn(shot, 120)))


def test_a_farm_without_ray_says_nothing_of_it(shot):
    assert not [each for each in drawn(shot, 80) if each.startswith("on Ray")]
