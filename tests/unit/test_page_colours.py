"""The page's colours: text can be read on every ground it stands on, by light and in the dark."""

from __future__ import annotations

import itertools
import re

import pytest

from farm.page.statics import FOLDER

STYLE = (FOLDER / "style.css").read_text()
GROUNDS = ("bg", "card", "hover", "accent-soft")
TEXTS = ("text", "muted", "accent", "good", "warn", "bad", "torque", "thrust", "third",
         "mark-entry", "mark-transition", "mark-exit")  # fmt: skip
AA = 4.5  # WCAG 2.2, 1.4.3, for text of common size
AA_GRAPHICS = 3.0  # 1.4.11: what is not text, as the edge of a field


def palette(selector: str) -> dict[str, str]:
    """The colours of the first rule with this selector, by name."""
    rule = STYLE.split(f"{selector} {{", 1)[1].split("}", 1)[0]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", rule))


LIGHT = palette(":root")
DARK = palette(':root[data-theme="dark"]')


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG defines it."""
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_every_text_can_be_read(colours):
    # prevents: grey on grey, which is not seen on a shop floor
    pale = {
        (text, ground): round(found, 2)
        for text, ground in itertools.product(TEXTS, GROUNDS)
        if (found := contrast(colours[text], colours[ground])) < AA
    }
    assert pale == {}
    assert contrast(colours["bad"], colours["bad-soft"]) >= AA
    assert contrast(colours["text"], colours["bad-soft"]) >= AA
    for layer in ("layer-a", "layer-b"):
        assert contrast(colours["text"], colours[layer]) >= AA
    assert contrast(colours["edge"], colours["card"]) >= AA_GRAPHICS


def test_the_dark_is_the_same_by_choice_and_by_the_system():
    # prevents: a colour that is mended in one of the two places alone
    assert palette(':root[data-theme="auto"]') == DARK
    assert LIGHT.keys() == DARK.keys()
