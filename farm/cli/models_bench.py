"""`farm models bench`: the runtimes of a depth network side by side, as a table."""

from __future__ import annotations

import json
import platform
import sys
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from farm.cli import known
from farm.errors import ModelError
from farm.models.registry import DEFAULT_ID, find_package, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from farm.models.package import Package
    from farm.training.runtime_bench import RuntimeCost, RuntimeReport

_DEFAULT_BATCHES: Final = "1,8,32"
_LEGEND: Final = (
    "ms: of the network alone, for each hole, the median. off: largest and mean difference of its",
    "keypoints from the eager runtime's, in mm. error: median absolute error against the simulated",
    "truth in mm, and how much it is above the eager runtime's.",
)


def _batches(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[int, ...]:
    parts = value.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise click.BadParameter(f"{value!r} is no list of numbers from 1, as {_DEFAULT_BATCHES}")
    return tuple(dict.fromkeys(int(part) for part in parts))


@click.command()
@click.argument(
    "model_id", metavar="[ID]", type=int, default=DEFAULT_ID, shell_complete=known.models
)
@click.option(
    "--runtime", "names", multiple=True, help="Only this one; may be repeated.  [default: all]"
)
@click.option(
    "--holes", type=click.IntRange(1), default=256, show_default=True, help="Simulated holes."
)
@click.option(
    "--batch",
    "batches",
    callback=_batches,
    default=_DEFAULT_BATCHES,
    show_default=True,
    help="Batch sizes.",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="What to run on.",
)
@click.option(
    "--calibrate",
    is_flag=True,
    help="Only measure anew which runtime `auto` takes on this machine, and remember it.",
)
@click.option("--markdown", is_flag=True, help="Print a table for a document.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def bench(
    find_dir: Callable[[], Path | None],
    model_id: int,
    *,
    names: tuple[str, ...],
    holes: int,
    batches: tuple[int, ...],
    device: str,
    calibrate: bool,
    markdown: bool,
    as_json: bool,
) -> None:
    """Measure every runtime that can be had here: speed, memory and loss of accuracy.

    On one thread, as each worker runs. Rounds alternate between the runtimes; load time and memory
    are those of a fresh process each. ID is a depth network's number. Below the table stands which
    runtime workers take by themselves here, and why not the others.

    What --calibrate finds is kept in $CACHE_DIRECTORY, else ~/.cache/farm: for a farm under systemd
    say sudo -u farm env CACHE_DIRECTORY=/var/cache/farm farm models bench --calibrate.

    \b
    Examples:
      farm models bench
      farm models bench 4 --runtime frozen --runtime int8 --holes 64
      farm models bench --calibrate
      farm models bench --markdown > runtimes.md
    """
    package = find_package(model_id, find_dir())
    if kind_of(package) != "depthnet":
        raise ModelError(
            f"model {model_id} is a {kind_of(package)}: only depth networks have runtimes"
        )
    # NumPy and PyTorch take seconds to import: only once the model is known to be there.
    from farm.models.package import WEIGHTS  # noqa: PLC0415
    from farm.models.runtime import RUNTIMES  # noqa: PLC0415
    from farm.training.runtime_bench import measure  # noqa: PLC0415

    if calibrate:
        _tell_calibration(package, anew=True, as_json=as_json)
        return
    if unknown := [name for name in names if name not in RUNTIMES]:
        raise click.BadParameter(
            f"{unknown[0]!r} is none of {', '.join(RUNTIMES)}", param_hint="--runtime"
        )
    with _progress_line() as progress:
        report = measure(
            package, names or RUNTIMES, holes=holes, batches=batches, device=device,
            progress=progress,
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps(_as_json(package, device, report), indent=1))
        return
    click.echo(
        f"{package.manifest.name} ({package.short_hash(WEIGHTS)}), {report.holes} simulated holes,"
        f" {device} ({platform.machine()}), one thread\n"
    )
    _print_table(report, markdown=markdown)
    if not names and device == "cpu":
        click.echo()
        _tell_calibration(package, anew=False, as_json=False)


def _tell_calibration(package: Package, *, anew: bool, as_json: bool) -> None:
    """Which runtime `auto` takes on this machine, and why."""
    from farm.models import machine  # noqa: PLC0415 - brings NumPy

    with _progress_line() as progress:
        progress("trying the runtimes in a process of their own")
        try:
            findings, _ = machine.remembered(package, anew=anew)
        except OSError as error:
            findings = machine.measured(package, machine.machine_key(package))
            click.echo(f"not remembered: there is no folder for it ({error})", err=True)
    if as_json:
        click.echo(json.dumps(machine.as_json(findings), indent=1))
        return
    click.echo(f"runtime: auto takes {findings.choice.runtime} here (off: from frozen)")
    for trial in findings.trials:
        off = "" if trial.reason else f", off by {trial.off_mm:.4f} mm at most"
        click.echo(f"  {trial.name:8}{machine.told(findings)[trial.name]}{off}")
    if findings.problem:
        click.echo(f"  the trial failed: {findings.problem}")


@contextmanager
def _progress_line() -> Iterator[Callable[[str], None]]:
    """One line on a terminal that says what is being done; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _told: None
        return
    from rich.console import Console  # noqa: PLC0415

    with Console(stderr=True).status("starting") as status:
        yield status.update


def _as_json(package: Package, device: str, report: RuntimeReport) -> dict[str, Any]:
    told = {"model": package.manifest.name, "device": device, "machine": platform.machine()}
    found = asdict(report)
    for cost in found["runtimes"]:
        if cost["reason"]:  # nothing was measured, and JSON has no NaN
            cost["load_s"] = cost["memory_mb"] = None
    return told | found


def _print_table(report: RuntimeReport, *, markdown: bool) -> None:
    sizes = list(report.prepare_ms)
    head = ["runtime", "load\ns", "memory\nMB", *(f"ms\nat {b}" for b in sizes), "off\nmax",
            "off\nmean", "error\n", "error\n+"]  # fmt: skip
    prepared = [f"{report.prepare_ms[b]:.3f}" for b in sizes]
    rows = [_row(cost, sizes) for cost in report.runtimes]
    rows.append(["resampling", "-", "-", *prepared, *["-"] * 4])
    raw = ", ".join(f"{ms:.3f} ms of {n} samples" for n, ms in report.from_json_ms.items())
    notes = [f"from raw messages to the grid, one hole at a time: {raw}"]
    notes += [f"{c.name} is not to be had here: {c.reason}" for c in report.runtimes if c.reason]
    if markdown:
        lines = ["| " + " | ".join(row).replace("\n", " ") + " |" for row in (head, *rows)]
        lines.insert(1, "|---" + "|---:" * (len(head) - 1) + "|")
        click.echo("\n".join([*lines, "", *_LEGEND, *(f"\n* {note}" for note in notes)]))
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for title in head:
        table.add_column(title, justify="left" if title == "runtime" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    click.echo("\n".join(["", *_LEGEND, *notes]))


def _row(cost: RuntimeCost, sizes: list[int]) -> list[str]:
    loss = cost.loss
    if loss is None:
        return [cost.name, *["-"] * (len(sizes) + 6)]
    lost = [f"{loss.largest_mm:.4f}", f"{loss.mean_mm:.4f}"]
    error = [f"{loss.error_mm:.4f}", f"{loss.error_change_mm:+.4f}"]
    speeds = [f"{cost.hole_ms[b]:.3f}" for b in sizes]
    return [cost.name, f"{cost.load_s:.2f}", f"{cost.memory_mb:.0f}", *speeds, *lost, *error]
