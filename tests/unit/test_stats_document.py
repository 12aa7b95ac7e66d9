"""docs/stats.md names every field that a program may read, and every key there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from shots import busy_shot

from farm.telemetry.keyboard import PAGES, PERIODS_S
from farm.telemetry.rows import TOOL_FIELDS, WORKER_FIELDS

PAGE = (Path(__file__).parents[2] / "docs" / "stats.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([a-z_0-9]+)`", PAGE))
# Told in other pages, or by the name of what is counted.
OPEN = {"counts", "mqtt", "intake", "journal", "scaling", "nursery", "partition", "fleet"}


def names_of(section: Any) -> set[str]:
    """The keys of a section, of the rows of a list and of what is in them."""
    if isinstance(section, dict):
        return set(section) | {name for value in section.values() for name in names_of(value)}
    if isinstance(section, list):
        return {name for row in section if isinstance(row, dict | list) for name in names_of(row)}
    return set()


def test_every_field_is_documented() -> None:
    """A field that programs come to rely on, and of which nobody has said what it is."""
    shot = busy_shot()
    assert set(shot) - NAMED == set()
    stages = {"latency": {"stage": shot["latency"]["total"]}}
    buffers = {"buffers": dict.fromkeys(shot["buffers"], 0)}
    for key, section in (shot | stages | buffers).items():
        if key not in OPEN:
            assert names_of(section) - NAMED - {"stage"} == set(), key


def test_every_key_and_column_is_documented() -> None:
    """A column whose heading is a riddle."""
    for key in (*PAGES, *PERIODS_S, "s", "r", "/", "f", "p", "q"):
        assert f"`{key}`" in PAGE
    for field in (*WORKER_FIELDS, *TOOL_FIELDS):
        assert field.column.title.lower().split()[0] in PAGE.lower(), field.column.title
