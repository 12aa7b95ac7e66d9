"""The command: `python -m tests.fuzz [PARSER …] --runs 10000000`; `bin/fuzz` sets it up."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from . import PARSERS
from .run import fuzz, minimise, reproduce


def main() -> int:
    """Do what the command line says; 0: nothing was found."""
    asked = _parsed()
    parsers = asked.parser or list(PARSERS)
    if asked.reproduce:
        if len(parsers) != 1:
            sys.exit("--reproduce needs the one parser that the file is for")
        return 0 if reproduce(parsers[0], asked.reproduce) else 1
    if importlib.util.find_spec("atheris") is None:
        sys.exit("atheris is not installed here: pip install -e '.[fuzz]', or use bin/fuzz")
    if asked.minimise:
        for parser in parsers:
            minimise(parser)
        return 0
    good = [fuzz(parser, runs=asked.runs, seconds=asked.seconds) for parser in parsers]
    return 0 if all(good) else 1


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bin/fuzz", description=__doc__)
    parser.add_argument("parser", nargs="*", choices=[*PARSERS, []], help="by default all")
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs to try; -1: any number")
    parser.add_argument("--seconds", type=int, default=0, help="at most so long; 0: any time")
    parser.add_argument("--reproduce", type=Path, metavar="FILE", help="feed this one input")
    parser.add_argument(
        "--minimise", action="store_true", help="renew tests/fuzz/corpus from what was found"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
