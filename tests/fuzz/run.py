"""Runs a parser's fuzzing process, tells how far it is, and what it found."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import corpus_files, harness

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[2]
KEPT = Path(__file__).with_name("corpus")  # in the repository, small
WORK = ROOT / "build" / "fuzz"  # what a run finds
TIMEOUT_S = 10  # an input takes a millisecond: whatever takes this long is a hang
RSS_LIMIT_MB = 512  # a run takes 40 to 90, however long: what takes this much has grown
FOUND = "found-"  # begins the names of inputs that broke a parser once: they stay for good
KEPT_BYTES = 45_000  # of a parser's inputs in the repository: the four stay below 200 kB
TELL_EVERY_S = 10.0
_PULSE = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+) .*corp: (\d+)/\S+ .*rss: (\d+)Mb")
_FOUND = re.compile(r"Test unit written to (\S+)")
_ENDS = {70: "a hang", 71: "too much memory", 77: "a crash"}  # libFuzzer's exit codes
_QUIET = re.compile(r"^(#|INFO|WARNING|MS:|0x|artifact_prefix|Base64|stat::|Dictionary|=====)")


@dataclass(slots=True)
class Progress:
    """What the process told last."""

    runs: int = 0
    coverage: int = 0
    inputs: int = 0
    rss_mb: int = 0
    first_rss_mb: int = 0

    def take(self, line: str) -> None:
        """Read a line of its report."""
        if found := _PULSE.match(line):
            self.runs, self.coverage, self.inputs, self.rss_mb = map(int, found.groups())
            self.first_rss_mb = self.first_rss_mb or self.rss_mb


def fuzz(parser: str, *, runs: int, seconds: int) -> bool:
    """Run until so many inputs were tried, or the time is over; whether nothing was found."""
    corpus, found = _folder(parser, "corpus"), _folder(parser, "found")
    options = [f"-runs={runs}", f"-max_total_time={seconds}", f"-artifact_prefix={found}/"]
    folders = [corpus, _seeds(parser), *([KEPT / parser] if (KEPT / parser).is_dir() else [])]
    started_s, told_s = time.monotonic(), time.monotonic()
    progress, last, artifact = Progress(), [], ""
    with _child(parser, folders, options) as child:
        assert child.stdout is not None
        for line in child.stdout:
            progress.take(line)
            if not _QUIET.match(line):
                last = [*last[-40:], line]
            if match := _FOUND.search(line):
                artifact = match[1]
            if time.monotonic() - told_s > TELL_EVERY_S:
                told_s = time.monotonic()
                _say(parser, _told(progress, runs, told_s - started_s))
    took_s = time.monotonic() - started_s
    if not child.returncode:
        _say(parser, f"{_told(progress, runs, took_s)}; no crash, hang or growth")
        return True
    sys.stdout.writelines(last)
    _say(parser, f"{_told(progress, runs, took_s)}; {_ENDS.get(child.returncode, 'it failed')}")
    if artifact:
        _say(parser, f"see it again: bin/fuzz {parser} --reproduce {artifact}")
    return False


def reproduce(parser: str, path: Path) -> bool:
    """Feed the parser one input, without atheris; whether it keeps what it promises."""
    started_s = time.monotonic()
    try:
        harness(parser).check(path.read_bytes())
    except Exception:  # noqa: BLE001 - whatever it is, it is what was looked for
        traceback.print_exc(file=sys.stdout)
        _say(parser, f"{path}: the input still breaks it")
        return False
    _say(parser, f"{path}: all is well, in {time.monotonic() - started_s:.3f} s")
    return True


def minimise(parser: str) -> None:
    """Make the kept corpus anew: the smallest inputs that reach what all of them reach."""
    sources = [_folder(parser, "corpus"), _seeds(parser)]
    if (KEPT / parser).is_dir():
        sources.append(KEPT / parser)
    with tempfile.TemporaryDirectory() as made:
        # a cover of the edges alone, not of how often each is passed: ten times fewer inputs
        options = ["-set_cover_merge=1", "-use_counters=0"]
        with _child(parser, [Path(made), *sources], options) as child:
            assert child.stdout is not None
            words = child.stdout.read()
        if child.returncode:
            raise SystemExit(f"{parser}: can't be minimised: {words[-2000:]}")
        (KEPT / parser).mkdir(parents=True, exist_ok=True)
        for path in corpus_files(KEPT, parser):
            if not path.name.startswith(FOUND):
                path.unlink()
        kept_bytes = kept = 0
        for path in sorted(Path(made).iterdir(), key=lambda path: path.stat().st_size):
            if kept_bytes + path.stat().st_size > KEPT_BYTES:
                break
            shutil.copy(path, KEPT / parser / path.name[:16])
            kept_bytes, kept = kept_bytes + path.stat().st_size, kept + 1
    _say(parser, f"{kept} inputs of {kept_bytes} bytes kept")


def _child(parser: str, folders: Iterable[Path], options: Iterable[str]) -> subprocess.Popen[str]:
    words = _folder(parser) / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in harness(parser).WORDS))
    return subprocess.Popen(
        [
            *(sys.executable, "-m", f"{__package__}.child", parser, *map(str, folders), *options),
            f"-dict={words}",
            f"-max_len={harness(parser).MAX_BYTES}",
            f"-timeout={TIMEOUT_S}",
            f"-rss_limit_mb={RSS_LIMIT_MB}",
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,  # here a finding's traceback is told, and all else there
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def _folder(parser: str, *names: str) -> Path:
    folder = WORK.joinpath(parser, *names)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _seeds(parser: str) -> Path:
    folder = _folder(parser, "seeds")
    for number, seed in enumerate(harness(parser).seeds()):
        (folder / str(number)).write_bytes(seed)
    return folder


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02X}" for byte in word)


def _told(progress: Progress, runs: int, took_s: float) -> str:
    wanted = f" of {runs:,}" if runs > 0 else ""
    return (
        f"{progress.runs:,}{wanted} runs in {took_s:.0f} s"
        f" ({progress.runs / max(took_s, 1e-3):,.0f}/s), {progress.coverage} edges,"
        f" {progress.inputs} inputs, {progress.first_rss_mb} to {progress.rss_mb} MB"
    )


def _say(parser: str, words: str) -> None:
    sys.stdout.write(f"{parser}: {words}\n")
    sys.stdout.flush()
