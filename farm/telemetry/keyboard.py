"""The keyboard of `farm stats`: bytes become keys, and keys change what is looked at.

Decisions without I/O: `Decoder` and `press` are folds over what is typed.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, replace
from enum import Enum

MAX_FILTER_CHARS = 60
PERIODS_S = {"1": 1.0, "2": 2.0, "5": 5.0}
_ESCAPE = "\x1b"
_SEQUENCES = {
    "[A": "up", "OA": "up", "[B": "down", "OB": "down", "[5~": "page up", "[6~": "page down",
    "[H": "home", "OH": "home", "[1~": "home", "[7~": "home",
    "[F": "end", "OF": "end", "[4~": "end", "[8~": "end",
}  # fmt: skip
_CONTROLS = {
    "\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", "\x15": "clear",
    "\x0c": "redraw", "\t": "tab",
}  # fmt: skip
_MOST_PENDING = 16  # characters of a sequence that nobody ends


class Page(Enum):
    """What is shown below the verdict; the value is its key."""

    OVERVIEW = "o"
    WORKERS = "w"
    TOOLS = "t"
    LATENCY = "l"
    DEAD = "d"
    HELP = "?"


PAGES = {page.value: page for page in Page}
FILTERED = (Page.OVERVIEW, Page.WORKERS, Page.TOOLS, Page.DEAD)  # the others have no rows


@dataclass(frozen=True, slots=True)
class Looking:
    """What is looked at, and how."""

    page: Page = Page.OVERVIEW
    before_help: Page = Page.OVERVIEW
    worker_sort: int = 0  # which of the sortable columns; taken modulo their number
    tool_sort: int = 0
    is_worker_reversed: bool = False
    is_tool_reversed: bool = False
    filter: str = ""  # of this page
    other_filters: tuple[tuple[Page, str], ...] = ()  # of those that are not shown
    is_typing: bool = False  # the filter
    is_paused: bool = False
    period_s: float = 1.0
    scroll: int = 0
    page_lines: int = 10  # of the last picture, for page up and down
    is_over: bool = False


def press(now: Looking, key: str) -> Looking:
    """What is looked at after a key; unknown keys change nothing."""
    if now.is_typing:
        return _type(now, key)
    if now.page is Page.HELP and key in ("?", "h", "escape", "enter"):
        return _go(now, now.before_help)
    if key in ("?", "h"):
        return replace(_go(now, Page.HELP), before_help=now.page)
    if key in PAGES:
        return _go(now, PAGES[key])
    return _CHANGES[key](now) if key in _CHANGES else _adjust(now, key)


def _go(now: Looking, page: Page) -> Looking:
    """To a page, which has kept its filter."""
    filters = {**dict(now.other_filters), now.page: now.filter}
    found = filters.pop(page, "")
    others = tuple((each, text) for each, text in filters.items() if text)
    return replace(now, page=page, scroll=0, filter=found, other_filters=others)


def _adjust(now: Looking, key: str) -> Looking:
    """What belongs to the page: its order, how often it is looked at, where it begins."""
    if key in PERIODS_S:
        return replace(now, period_s=PERIODS_S[key])
    if key in ("s", "S", "r"):
        return _sort(now, is_reversing=key != "s")
    return _scroll(now, key)


def _next_page(now: Looking) -> Looking:
    pages = [page for page in Page if page is not Page.HELP]
    place = pages.index(now.page) if now.page in pages else -1
    return _go(now, pages[(place + 1) % len(pages)])


def _over(now: Looking) -> Looking:
    return replace(now, is_over=True)


def _begin_filter(now: Looking) -> Looking:
    if now.page not in FILTERED:
        return now
    return replace(now, is_typing=True, scroll=0)


def _clear_filter(now: Looking) -> Looking:
    return replace(now, filter="", scroll=0)


def _pause(now: Looking) -> Looking:
    return replace(now, is_paused=not now.is_paused)


_CHANGES = {
    "q": _over, "Q": _over, "/": _begin_filter, "f": _begin_filter, "escape": _clear_filter,
    "p": _pause, " ": _pause, "tab": _next_page,
}  # fmt: skip


def _type(now: Looking, key: str) -> Looking:
    if key == "enter":
        return replace(now, is_typing=False)
    if key == "escape":
        return replace(now, is_typing=False, filter="")
    if key == "backspace":
        return replace(now, filter=now.filter[:-1], scroll=0)
    if key == "clear":
        return replace(now, filter="", scroll=0)
    if len(key) == 1 and key.isprintable() and len(now.filter) < MAX_FILTER_CHARS:
        return replace(now, filter=now.filter + key, scroll=0)
    return now


def _sort(now: Looking, *, is_reversing: bool) -> Looking:
    match now.page, is_reversing:
        case Page.WORKERS, False:
            return replace(now, worker_sort=now.worker_sort + 1, is_worker_reversed=False)
        case Page.WORKERS, True:
            return replace(now, is_worker_reversed=not now.is_worker_reversed)
        case Page.TOOLS, False:
            return replace(now, tool_sort=now.tool_sort + 1, is_tool_reversed=False)
        case Page.TOOLS, True:
            return replace(now, is_tool_reversed=not now.is_tool_reversed)
    return now


def _scroll(now: Looking, key: str) -> Looking:
    page = max(now.page_lines - 1, 1)
    steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -page, "page down": page}
    if key == "home":
        return replace(now, scroll=0)
    if key == "end":
        return replace(now, scroll=1_000_000)  # the picture knows where the end is
    if key in steps:
        return replace(now, scroll=max(0, now.scroll + steps[key]))
    return now


class Decoder:
    """Turns what a terminal sends into keys: characters, and names such as "page up"."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._pending = ""

    @property
    def is_waiting(self) -> bool:
        """Whether a sequence has begun: it may as well be the escape key."""
        return bool(self._pending)

    def feed(self, data: bytes) -> list[str]:
        """The keys that are complete by now."""
        keys: list[str] = []
        for character in self._decode(data):
            if self._pending:
                self._go_on(character, keys)
            elif character == _ESCAPE:
                self._pending = character
            elif key := _key(character):
                keys.append(key)
        return keys

    def flush(self) -> list[str]:
        """Nothing more came for a while: what had begun was the escape key itself."""
        pending, self._pending = self._pending, ""
        if not pending:
            return []
        return ["escape", *filter(None, map(_key, pending[1:]))]

    def _go_on(self, character: str, keys: list[str]) -> None:
        if character == _ESCAPE:  # pressed twice, or a sequence that was cut off
            keys.append("escape")
            self._pending = _ESCAPE
            return
        self._pending += character
        rest = self._pending[1:]
        if rest in ("[", "O"):
            return
        is_control = rest[0] in "[O"
        if is_control and not "@" <= character <= "~" and len(rest) < _MOST_PENDING:
            return  # parameters
        self._pending = ""
        if is_control:
            if name := _SEQUENCES.get(rest):
                keys.append(name)
            return
        keys.append("escape")
        if key := _key(character):
            keys.append(key)


def _key(character: str) -> str:
    if character in _CONTROLS:
        return _CONTROLS[character]
    return character if character.isprintable() else ""
