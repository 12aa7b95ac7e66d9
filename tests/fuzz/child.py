"""One fuzzing process of one parser: `python -m tests.fuzz.child PARSER [libFuzzer's options]`.

libFuzzer ends the process it runs in, hence one of its own.
"""

from __future__ import annotations

import sys

import atheris


def main() -> None:
    """Instrument the parser, and hand over to libFuzzer."""
    from . import harness  # noqa: PLC0415 - after atheris, as its guide has it

    parser, *options = sys.argv[1:]
    with atheris.instrument_imports(include=_instrumented(parser)):
        found = harness(parser)
    # libFuzzer starts its own command line again, by a shell, to merge
    again = f"{sys.executable} -m {__package__}.child {parser}"
    atheris.Setup([again, *options], found.check)
    atheris.Fuzz()


def _instrumented(parser: str) -> list[str]:
    """Read from the harness's source: what is imported already is not instrumented any more."""
    import ast  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    source = ast.parse(Path(__file__).with_name(f"{parser}.py").read_text())
    for node in source.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "INSTRUMENTED":
            return list(ast.literal_eval(node.value))
    raise SystemExit(f"{parser}: no INSTRUMENTED in it")


main()
