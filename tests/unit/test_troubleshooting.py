"""docs/troubleshooting.md names events, sentences and keys that there are."""

import re

import pytest
from command_lines import ROOT

from farm.config.keys import tree

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
CODE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "farm").rglob("*.py")))
JOINED = re.sub(r'"\s*\n\s*(?:rf|f|r)?"', "", CODE)  # a sentence that stands on two lines
TABLES = [line for line in PAGE.splitlines() if line.startswith("|")]
EVENTS = sorted({name for line in TABLES for name in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", line)})
SAID = sorted({said for line in TABLES for said in re.findall(r'"([^"]+)"', line)})
KEYS = sorted(set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", PAGE)))
OF_OTHERS = {"activating"}  # systemd's
LEVELS = {"info": ("info",), "warning": ("warning",), "error": ("error", "exception")}


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_of_the_page_is_logged(event):
    # prevents: an event that one looks for at three in the morning, and that was renamed
    assert f'"{event}"' in CODE


@pytest.mark.parametrize("said", SAID)
def test_a_sentence_of_the_page_is_said(said):
    # prevents: a symptom in words that nobody will ever see
    for piece in said.split("…"):
        assert said in OF_OTHERS or piece.strip(" )(") in JOINED, piece


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_the_page_can_be_set(key):
    # prevents: a cure that is refused as an unknown key
    known = {*tree().leaves, *tree().sections}
    is_of_stats = key.startswith(("counts.", "intake."))
    is_open = any(
        leaf.is_mapping and key.startswith(f"{name}.") for name, leaf in tree().leaves.items()
    )
    assert key in known or is_of_stats or is_open or key == "log.format", key


def test_the_level_of_an_event_is_the_one_it_is_logged_at():
    # prevents: a warning that one filters for, and that comes as an error
    rows = [line.split("|")[1:3] for line in PAGE.partition("## Events")[2].splitlines()]
    for names, told in (row for row in rows if len(row) == 2 and "`" in row[0]):
        levels = [LEVELS[word] for word in re.findall(r"info|warning|error", told)]
        for event in re.findall(r"`(\w+)`", names):
            calls = re.findall(rf'\.(info|warning|error|exception)\(\s*"{event}"', CODE)
            assert not calls or any(call in level for level in levels for call in calls), event


def test_every_event_that_a_person_should_see_is_on_the_page():
    # prevents: a warning at three in the morning that no page knows
    calls = re.findall(r"\.(warning|error|exception)\(\s*\"([a-z_]+)\"", CODE)
    assert len(calls) > 80
    assert {event for _, event in calls} - set(re.findall(r"`(\w+)`", PAGE)) == set()
