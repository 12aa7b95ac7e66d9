"""Fuzzing of the parsers: what each must keep, and a command that looks for bytes that break it.

`python -m tests.fuzz`, or `bin/fuzz`, needs atheris. The harnesses don't: the suite replays the
corpus through them, and hypothesis drives the same properties (docs/fuzzing.md).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PARSERS = ("messages", "wire", "packets", "configuration")


class Harness(Protocol):
    """What a module of this folder offers for one parser."""

    INSTRUMENTED: tuple[str, ...]  # modules whose coverage guides the fuzzer
    WORDS: tuple[bytes, ...]  # pieces that random bytes would hardly hit
    MAX_BYTES: int  # of an input

    @staticmethod
    def check(data: bytes) -> None:
        """Feed the parser.

        Raises:
            PropertyError: something that it promises did not hold; any other exception is a crash.
        """

    @staticmethod
    def seeds() -> Iterable[bytes]:
        """Inputs to begin with, all made up."""


class PropertyError(AssertionError):
    """The parser did not crash, and did not keep what it promises either."""


def harness(parser: str) -> Harness:
    """The harness of one of `PARSERS`."""
    return cast("Harness", importlib.import_module(f".{parser}", __package__))


def corpus_files(corpus: Path, parser: str) -> list[Path]:
    """The kept inputs of a parser, in a fixed order."""
    return sorted(path for path in (corpus / parser).iterdir() if path.is_file())


def must(holds: object, what: str) -> None:
    """Raise `PropertyError` with `what` unless it holds."""
    if not holds:
        raise PropertyError(what)
