"""What strangers write, made fit for a screen, a log line, a label and a file's name.

Owns the one rule: what can't be printed is shown as its escape. So a name can't colour a terminal,
move its cursor, set its title, turn the direction of the text beside it or begin a line of its own.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_CHARS: Final = 4000  # of one text in a log line or a table; the longest honest one is a reason
MAX_DEPTH: Final = 32  # of data that is made printable; ours has six
MAX_MARKS: Final = 2  # upon one character; living languages need no more
FIRST_MARK: Final = "\u0300"
# Printable for Python, and not seen: joiners, fillers of Hangul, inherent vowels of Khmer,
# variation selectors. With them two names look alike that are not.
_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_FILE_CHARS: Final = 100
_FILE_SIGNS: Final = frozenset("-_.")


def printable(text: str, most_chars: int = MAX_CHARS) -> str:
    r"""A text in one line, without anything that a terminal would obey.

    Control characters, ANSI and OSC sequences, line ends, bidirectional overrides, characters that
    can't be seen and lone surrogates become escapes such as \x1b and \u202e; so does what would be
    heaped upon one character beyond two accents. What is too long is cut, and says so.
    """
    if len(text) > most_chars:
        text = f"{text[:most_chars]}… ({len(text) - most_chars} characters more)"
    if text.isprintable() and (text.isascii() or max(text) < FIRST_MARK):  # nearly always
        return text
    return "".join(_shown(text))


def printable_lines(text: str, most_chars: int = 20 * MAX_CHARS, *, indent: str = "") -> str:
    """The same for a text whose line ends are wanted, as those of a traceback.

    Indented, no line of it looks like one of the log's own.
    """
    if len(text) > most_chars:
        text = f"{text[:most_chars]}… ({len(text) - most_chars} characters more)"
    return "\n".join(indent + printable(line, most_chars) for line in text.split("\n"))


def printable_data(data: Any, depth: int = MAX_DEPTH) -> Any:
    """Plain data with every text in it made printable, keys included; "…" for what is too deep."""
    if isinstance(data, str):
        return printable(data)
    if isinstance(data, dict | list | tuple) and depth <= 0:
        return "…"
    if isinstance(data, dict):
        return {
            printable_data(key, depth - 1): printable_data(value, depth - 1)
            for key, value in data.items()
        }
    if isinstance(data, list | tuple):
        return [printable_data(each, depth - 1) for each in data]
    return data


def json_line(data: Any) -> str:
    """Data as one line of JSON in ASCII, for programs: texts are whole, and a terminal is safe."""
    # JSON escapes all control characters but the last one
    return json.dumps(data, default=repr).replace("\x7f", "\\u007f")


def file_name(text: str) -> str:
    """A text as the name of a file in a folder that was chosen: no path, nothing hidden."""
    kept = "".join(c if (c.isascii() and c.isalnum()) or c in _FILE_SIGNS else "_" for c in text)
    return kept[:_FILE_CHARS].lstrip(".") or "_"


def _shown(text: str) -> Iterator[str]:
    marks = 0  # in a row
    for each in text:
        marks = marks + 1 if unicodedata.category(each) in ("Mn", "Me") else 0
        is_seen = each.isprintable() and not _UNSEEN.match(each) and marks <= MAX_MARKS
        yield each if is_seen else _escape(each)


def _escape(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
