"""The keyboard of `farm stats`: bytes to keys, keys to what is looked at."""

from __future__ import annotations

from functools import reduce

import pytest

from farm.telemetry.keyboard import MAX_FILTER_CHARS, Decoder, Looking, Page, press


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"wq", ["w", "q"]),
        (b"\x1b[A\x1b[B\x1bOA", ["up", "down", "up"]),
        (b"\x1b[5~\x1b[6~\x1b[H\x1b[4~", ["page up", "page down", "home", "end"]),
        (b"\x1b[1;5C", []),  # Ctrl-Right: nothing of ours, and no "1;5C" typed
        (b"\x1b[24~x", ["x"]),
        (b"\r\x7f\x15\t\x0c", ["enter", "backspace", "clear", "tab", "redraw"]),
        (b"\x1bw", ["escape", "w"]),
        (b"\x1b\x1b[A", ["escape", "up"]),
        ("ü…".encode(), ["ü", "…"]),
        (b"\x00\x01\xff", ["�"]),  # what is no text is one sign that means nothing
    ],
)
def test_what_a_terminal_sends_becomes_keys(data: bytes, keys: list[str]) -> None:
    """An arrow key that is taken for Escape, "[" and "A"; also where it comes byte by byte."""
    whole, single = Decoder(), Decoder()
    assert whole.feed(data) == keys
    assert [key for byte in data for key in single.feed(bytes([byte]))] == keys
    assert not whole.is_waiting


def test_a_lone_escape_is_a_key_once_nothing_follows() -> None:
    """An Escape that waits for the next key."""
    decoder = Decoder()
    assert decoder.feed(b"\x1b") == []
    assert decoder.is_waiting
    assert decoder.flush() == ["escape"]
    assert not decoder.is_waiting
    assert decoder.flush() == []


def test_a_sequence_without_an_end_is_not_waited_for_for_ever() -> None:
    """Garbage that swallows every later key."""
    decoder = Decoder()
    decoder.feed(b"\x1b[" + b"1" * 100)
    assert decoder.feed(b"q") == ["q"]


def pressed(*keys: str, start: Looking | None = None) -> Looking:
    return reduce(press, keys, start or Looking())


@pytest.mark.parametrize(
    ("keys", "page"),
    [
        (("w",), Page.WORKERS),
        (("t",), Page.TOOLS),
        (("l",), Page.LATENCY),
        (("d",), Page.DEAD),
        (("t", "o"), Page.OVERVIEW),
        (("t", "?"), Page.HELP),
        (("t", "?", "?"), Page.TOOLS),
        (("t", "?", "escape"), Page.TOOLS),
        (("?", "w"), Page.WORKERS),
        (("tab",), Page.WORKERS),
        (("tab", "tab", "tab", "tab", "tab"), Page.OVERVIEW),
        (("x", "up", "€"), Page.OVERVIEW),
    ],
)
def test_keys_choose_the_page(keys: tuple[str, ...], page: Page) -> None:
    assert pressed(*keys).page is page


def test_a_filter_is_typed_kept_and_cleared() -> None:
    """A filter whose "q" ends the program, or whose "w" leaves the page."""
    typing = pressed("t", "/", "q", "w", "1")
    assert (typing.filter, typing.is_typing, typing.page, typing.is_over) == (
        "qw1", True, Page.TOOLS, False,
    )  # fmt: skip
    assert pressed("backspace", "enter", start=typing).filter == "qw"
    assert not pressed("enter", start=typing).is_typing
    assert pressed("enter", "escape", start=typing).filter == ""
    assert pressed("escape", start=typing).filter == ""
    assert pressed("clear", "x", start=typing).filter == "x"
    assert len(pressed("/", *"x" * 500).filter) == MAX_FILTER_CHARS
    assert pressed("/", "up", "page down").filter == ""


def test_each_table_has_its_own_order() -> None:
    """A sort of the tools that turns the workers around, too."""
    looking = pressed("w", "s", "s", "r", "t", "s")
    assert (looking.worker_sort, looking.is_worker_reversed) == (2, True)
    assert (looking.tool_sort, looking.is_tool_reversed) == (1, False)
    assert not pressed("s", start=looking).is_tool_reversed
    assert pressed("o", "s", "r") == pressed("o")  # nothing to be sorted there


def test_scrolling_stays_above_the_top_and_a_new_page_begins_there() -> None:
    """A page that is empty, since the one before was scrolled down."""
    down = pressed("t", "down", "down", "page down")
    assert down.scroll == 2 + 9
    assert pressed("up", "page up", "page up", start=down).scroll == 0
    assert pressed("w", start=down).scroll == 0
    assert pressed("/", start=down).scroll == 0
    assert pressed("end", "home", start=down).scroll == 0


def test_pause_period_and_quit() -> None:
    assert pressed("p").is_paused
    assert not pressed("p", " ").is_paused
    assert [pressed(key).period_s for key in "125"] == [1.0, 2.0, 5.0]
    assert pressed("q").is_over


def test_each_page_has_a_filter_of_its_own() -> None:
    """A tool's name, looked for among the tools, that empties the workers and the overview."""
    tools = pressed("t", "/", *"box", "enter")
    assert tools.filter == "box"
    for key in ("w", "o", "d", "l", "tab"):
        elsewhere = pressed(key, start=tools)
        assert elsewhere.filter == "", key
        assert pressed("t", start=elsewhere).filter == "box", key
    assert pressed("?", "?", start=tools).filter == "box"
    both = pressed("w", "/", "3", "enter", start=tools)
    assert (both.filter, pressed("t", start=both).filter) == ("3", "box")
    gone = pressed("escape", "w", "t", start=tools)
    assert (gone.filter, gone.other_filters) == ("", ())


@pytest.mark.parametrize("key", ["l", "?"])
def test_where_there_are_no_rows_nothing_is_filtered(key: str) -> None:
    """A word that is typed on a page which it can't change."""
    assert not pressed(key, "/").is_typing
