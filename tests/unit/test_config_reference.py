"""docs/configuration.md is what the code says of its keys."""

from command_lines import ROOT

from farm.config.keys import tree
from farm.config.reference import page

PAGE = ROOT / "docs" / "configuration.md"


def test_the_page_is_made_from_the_tree():
    # prevents: a key, a default or a bound that is looked up and is of yesterday
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "renew it: bin/farm config reference > docs/configuration.md"
    )


def test_every_key_has_its_row_in_its_section():
    # prevents: a section that the walk passes by
    text = page()
    for key in tree().leaves:
        section, _, name = key.rpartition(".")
        heading = f"## `{section}`" if section else "## At the top"
        below = text.partition(f"{heading}\n")[2].partition("\n## ")[0]
        assert f"\n| `{name}`" in below, key


def test_bounds_choices_and_units_are_told():
    # prevents: a column that is empty because pydantic names its marks in another way
    text = page()
    assert "| `port` | `1883` | ≥ 1 and ≤ 65_535 |" in text
    assert "| `durability` | `process` | `power`, `process`, `off` |" in text
    assert "| `threads` ↻ | `1` |" in text
    assert "| `password` | empty |" in text
