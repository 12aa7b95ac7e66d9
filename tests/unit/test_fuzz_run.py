"""What the fuzzing command tells, without a fuzzer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import fuzz
from fuzz import run

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_progress_is_read_from_libfuzzer_s_lines() -> None:
    """A run that says 0 runs when it ends, and memory that grows unseen."""
    progress = run.Progress()
    for line in (
        "INFO: Running with entropic power schedule (0xFF, 100).",
        "#48\tINITED cov: 74 ft: 149 corp: 22/406b exec/s: 0 rss: 43Mb",
        "#131072\tpulse  cov: 86 ft: 215 corp: 43/1185b lim: 1178 exec/s: 43690 rss: 45Mb",
        "#412958\tDONE   cov: 86 ft: 215 corp: 43/1004b lim: 2048 exec/s: 45884 rss: 47Mb",
    ):
        progress.take(line)
    assert progress == run.Progress(412_958, 86, 43, 47, first_rss_mb=43)


def test_an_input_is_seen_again_without_atheris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finding that is called well, or that ends the command instead of being told."""
    path = tmp_path / "input"
    path.write_bytes(b"M")
    assert run.reproduce("wire", path)
    monkeypatch.setattr(fuzz.harness("wire"), "check", lambda _data: fuzz.must(False, "as it must"))
    assert not run.reproduce("wire", path)
    told = capsys.readouterr().out
    assert "PropertyError: as it must" in told
    assert "still breaks it" in told
