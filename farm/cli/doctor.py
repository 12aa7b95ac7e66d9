"""`farm doctor`: what of this machine, this configuration and this MQTT broker would fail."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from farm.cli.options import config_option, load, state_dir_option
from farm.doctor.configuration import unusable
from farm.doctor.examination import EXAMINATIONS, examine
from farm.doctor.finding import Finding, Verdict
from farm.doctor.patient import admit
from farm.errors import ConfigError, ExitCode, StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rich.console import Console

_STYLES: Final = {Verdict.OK: "green", Verdict.WARN: "bold yellow", Verdict.FAIL: "bold red"}
_CHECK_CHARS: Final = 26  # of the longest name of a check


class _Shown(NamedTuple):
    """How findings are shown."""

    begin: Callable[[str], None]  # with the name of an examination
    show: Callable[[Finding], None]


@click.command()
@config_option
@state_dir_option
@click.option(
    "-w",
    "--workers",
    type=click.IntRange(0, 1000),
    help="As of `farm start`.  [default: mqtt.processing.workers]",
)
@click.option(
    "--only",
    "names",
    type=click.Choice(list(EXAMINATIONS)),
    multiple=True,
    help="Only this examination; may be repeated.  [default: all]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    config_path: Path | None,
    state_dir: Path | None,
    workers: int | None,
    names: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Look for what would fail: here, in the configuration, and at the MQTT broker.

    Each finding is ok, warn (it works, and will hurt some day) or fail, with its cure. Exit code 0
    when nothing failed, else 1. It works beside a farm that runs, changes nothing, and publishes on
    topics of its own alone, farm/doctor/…; docs/doctor.md says what it can't see.

    \b
    Examples:
      farm doctor --config etc/farm.yaml
      farm doctor --only mqtt --only doors
      farm doctor --json | jq '.findings[] | select(.verdict != "ok")'
    """
    found: list[Finding] = []
    with _shown(as_json=as_json) as shown:
        overrides = {"mqtt.processing.workers": workers}
        chosen = [name for name in EXAMINATIONS if not names or name in names]
        try:
            loaded = load(config_path, state_dir=state_dir, overrides=overrides)
            findings = examine(admit(loaded, os.environ), chosen, shown.begin)
        except (ConfigError, StateError) as error:
            findings = iter([unusable(error)])
        for finding in findings:
            found.append(finding)
            shown.show(finding)
    counts = Counter(finding.verdict for finding in found)
    if as_json:
        click.echo(json.dumps(_as_data(found, counts)))
    else:
        _print_summary(found)
    sys.exit(ExitCode.FAILURE if counts[Verdict.FAIL] else ExitCode.OK)


def _as_data(found: list[Finding], counts: Counter[Verdict]) -> dict[str, object]:
    worst = next(
        v for v in (Verdict.FAIL, Verdict.WARN, Verdict.OK) if counts[v] or v is Verdict.OK
    )
    return {
        "verdict": worst.value,
        "counts": {verdict.value: counts[verdict] for verdict in Verdict},
        "findings": [
            {"check": one.check, "verdict": one.verdict.value, "said": one.said, "cure": one.cure}
            for one in found
        ],
    }


def _print(console: Console, finding: Finding) -> None:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    style = _STYLES[finding.verdict]
    told = Text(finding.said)
    if finding.cure:
        told.append(f"\n→ {finding.cure}", style="bold")
    row = Table.grid(padding=(0, 1, 0, 0))
    row.add_column(width=4)
    row.add_column(width=_CHECK_CHARS)
    row.add_column(overflow="fold")
    row.add_row(Text(finding.verdict.value, style=style), finding.check, told)
    console.print(row)


@contextmanager
def _shown(*, as_json: bool) -> Iterator[_Shown]:
    """Shows each finding as it comes, and on a terminal what is looked at."""
    from rich.console import Console  # noqa: PLC0415 - not for --help

    console = Console()
    # on one console where both are seen, else the line would be written into the findings
    line = console if console.is_terminal and not as_json else Console(stderr=True)
    show: Callable[[Finding], None] = _keep if as_json else partial(_print, console)
    if not line.is_terminal:
        yield _Shown(lambda _name: None, show)
        return
    with line.status("reading the configuration") as status:
        yield _Shown(lambda name: status.update(f"looking at: {name}"), show)


def _keep(_finding: Finding) -> None:
    """Nothing is printed before the end."""


def _print_summary(found: list[Finding]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    told = []
    for verdict in Verdict:
        checks = [finding.check for finding in found if finding.verdict is verdict]
        names = "" if verdict is Verdict.OK or not checks else f" ({', '.join(checks)})"
        told.append(f"{len(checks)} {verdict.value}{names}")
    Console().print(Text("\n" + ", ".join(told)))
