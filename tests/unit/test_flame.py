"""docs/profiles/flame.py: the shares in the picture are those of the recording."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

SCRIPT = Path(__file__).parents[2] / "docs/profiles/flame.py"


@pytest.fixture
def flame(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("flame", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "flame", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_a_recording_is_read_and_drawn(
    flame: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, png = tmp_path / "broker.raw", tmp_path / "broker.png"
    raw.write_text(
        "<module> (runpy.py:3);Broker.run (farm/broker/process.py:1);Flow.in (farm/a.py:1) 60\n"
        "<module> (runpy.py:3);Broker.run (farm/broker/process.py:1) 30\n"
        "Thread.run (threading.py:982);Writer._run (farm/journal/writer.py:9) 10\n"
    )
    top = flame.read(raw)
    assert top.samples == 100
    assert {name.partition(" ")[0]: box.samples for name, box in top.calls.items()} == {
        "Broker.run": 90,
        "Writer._run": 10,
    }
    flame.main(str(raw), str(png), "a title")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.split()[:4] == ["60.0%", "Flow.in", "(farm/a.py:1)", "30.0%"]


def test_names_lose_their_class_before_they_are_cut(flame: ModuleType) -> None:
    name = "Correlator.offer (farm/broker/correlator.py:147)"
    assert [flame.shortened(name, n) for n in (20, 10, 3)] == ["Correlator.offer", "offer", "off"]
