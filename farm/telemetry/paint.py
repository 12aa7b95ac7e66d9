"""Lines become what a terminal obeys: the one place that knows escape sequences for styles."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from farm.telemetry.lines import Line

_ATTRIBUTES = {"bold": 1, "dim": 2, "reverse": 7}
_COLOURS = {"red": 31, "green": 32, "yellow": 33, "cyan": 36}


def paint(made: Line, *, has_styles: bool, has_colours: bool) -> str:
    """One line as text; without styles it is plain."""
    if not has_styles:
        return "".join(span.text for span in made).rstrip()
    codes = _ATTRIBUTES | (_COLOURS if has_colours else {})
    parts = []
    for text, style in made:
        numbers = ";".join(str(codes[word]) for word in style.split() if word in codes)
        parts.append(f"\x1b[{numbers}m{text}\x1b[0m" if numbers else text)
    return "".join(parts)


def plain(lines: Sequence[Line]) -> str:
    """Lines as a text without escapes."""
    return "\n".join(paint(each, has_styles=False, has_colours=False) for each in lines)
