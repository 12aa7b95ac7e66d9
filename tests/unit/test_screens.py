"""Draws each page as a person sees it, to build/screens/, where it can be looked at."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text
from shots import busy_shot

from farm.telemetry.keyboard import Looking, Page
from farm.telemetry.lines import ASCII, UNICODE, text_of
from farm.telemetry.paint import paint, plain
from farm.telemetry.view import screen

SCREENS = Path(__file__).parents[2] / "build" / "screens"
SHOTS = {"keeps-up": busy_shot(), "behind": busy_shot(is_behind=True, tools=40)}


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 45), (40, 20)])
@pytest.mark.parametrize("name", list(SHOTS))
def test_the_screens_can_be_looked_at(name: str, width: int, height: int) -> None:
    """A page that differs on a terminal with colours from what was laid out."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    for page in Page:
        glyphs = UNICODE if width != 40 else ASCII
        lines = screen(
            SHOTS[name], Looking(page=page), width, height, glyphs, clock="14:03:22"
        ).lines
        stem = f"{name}-{page.name.lower()}-{width}"
        (SCREENS / f"{stem}.txt").write_text(plain(lines) + "\n", encoding="utf-8")
        console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
        for each in lines:
            text = Text.from_ansi(paint(each, has_styles=True, has_colours=True))
            assert text.plain == text_of(each)
            console.print(text, no_wrap=True, overflow="crop", highlight=False)
        (SCREENS / f"{stem}.svg").write_text(
            console.export_svg(title=f"farm stats, {page.name.lower()}"), encoding="utf-8"
        )
    overview = (SCREENS / f"{name}-overview-{width}.txt").read_text(encoding="utf-8")
    assert ("Falling behind" in overview) is (name == "behind")
