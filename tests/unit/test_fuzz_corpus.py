"""What fuzzing has kept and begins with, through each harness, without atheris."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import PARSERS, corpus_files, harness

TESTS = Path(__file__).parents[1]
CORPUS = TESTS / "fuzz" / "corpus"
MOST_BYTES = 200_000
KEPT = [(parser, path) for parser in PARSERS for path in corpus_files(CORPUS, parser)]


@pytest.mark.parametrize(
    ("parser", "path"), KEPT, ids=[f"{parser}-{path.name}" for parser, path in KEPT]
)
def test_every_kept_input_keeps_the_properties(parser: str, path: Path) -> None:
    """A parser changed so that an input known from fuzzing breaks it; a corpus that rots."""
    harness(parser).check(path.read_bytes())


@pytest.mark.parametrize("parser", PARSERS)
def test_every_seed_keeps_the_properties(parser: str) -> None:
    """A harness that follows its parser no more: fuzzing would end with its first input."""
    seeds = list(harness(parser).seeds())
    assert len(seeds) > 10
    for seed in seeds:
        assert len(seed) <= harness(parser).MAX_BYTES
        harness(parser).check(seed)


@pytest.mark.parametrize("parser", PARSERS)
def test_there_is_something_to_replay(parser: str) -> None:
    """A replay of nothing, which is always green."""
    assert len(corpus_files(CORPUS, parser)) > 5


def test_the_corpus_stays_small() -> None:
    """A repository that grows with every run of the fuzzer."""
    assert sum(path.stat().st_size for _, path in KEPT) < MOST_BYTES


def test_harnesses_need_no_atheris() -> None:
    """A suite that can't be collected where atheris isn't installed."""
    script = (
        "import sys\nsys.modules['atheris'] = None\nimport fuzz\n"
        "assert [fuzz.harness(parser) for parser in fuzz.PARSERS]\n"
    )
    path = [str(TESTS), str(TESTS.parent)]
    subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.path[:0] = {path!r}\n{script}"], check=True
    )
