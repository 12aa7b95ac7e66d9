"""The Grafana dashboard: what a Grafana must find in the file, where none is at hand."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from farm.metrics.catalogue import FAMILIES, Type

FILE = Path(__file__).parents[2] / "etc" / "grafana" / "farm.json"
COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SERIES = re.compile(r"\b(?:farm|process)_\w+")
OF_THE_CLIENT = {
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
}


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(FILE.read_text())
    return made


def expressions(dashboard: dict[str, Any]) -> list[str]:
    found = [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", ())]
    return found + [each["expr"] for each in dashboard["annotations"]["list"]]


def test_it_can_be_imported_beside_any_prometheus(dashboard: dict[str, Any]) -> None:
    """Prevents: a dashboard bound to the data source of whoever drew it."""
    assert dashboard["uid"] == "farm"
    assert dashboard["schemaVersion"] >= 36
    assert "id" not in dashboard  # Grafana gives it; ours would replace another's
    kinds = {each["name"]: each["type"] for each in dashboard["templating"]["list"]}
    assert kinds == {"datasource": "datasource", "instance": "query"}
    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            assert panel["datasource"] == DATASOURCE
            assert all(target["datasource"] == DATASOURCE for target in panel["targets"])


def test_every_panel_is_told_apart_and_has_its_place(dashboard: dict[str, Any]) -> None:
    """Prevents: panels that hide each other, or that Grafana drops since their ids are one."""
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= COLUMNS
        cells = set(
            itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"]))
        )
        assert not taken & cells, panel["title"]
        taken |= cells
        refs = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(refs)) == len(refs)
        assert panel["type"] == "row" or refs, panel["title"]


def test_every_question_is_about_the_chosen_farms_and_a_metric_that_there_is(
    dashboard: dict[str, Any],
) -> None:
    """Prevents: a panel that mixes in another farm, or stays empty since a name has changed."""
    names = set(FAMILIES) | OF_THE_CLIENT
    for name, family in FAMILIES.items():
        if family.type is Type.HISTOGRAM:
            names |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    for text in expressions(dashboard):
        series = SERIES.findall(text)
        assert series
        assert set(series) <= names, text
        assert text.count('instance=~"$instance"') == len(series), text
        assert text.count("[") == text.count("[$__rate_interval]"), text


def test_counters_are_shown_as_rates_and_gauges_as_they_are(dashboard: dict[str, Any]) -> None:
    """Prevents: a curve that only rises, and the derivative of a temperature."""
    for text in expressions(dashboard):
        for call, name in re.findall(r"(\w+\()?((?:farm|process)_\w+)\{", text):
            rises = name.endswith(("_total", "_bucket", "_sum", "_count"))
            is_rate = call in ("rate(", "increase(", "changes(")
            assert is_rate == (rises or name == "process_start_time_seconds"), text


def test_every_panel_has_a_unit_and_says_what_it_is(dashboard: dict[str, Any]) -> None:
    """Prevents: a curve of 0.05 somethings."""
    for panel in dashboard["panels"]:
        assert panel["title"]
        if panel["type"] in ("timeseries", "stat"):
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
