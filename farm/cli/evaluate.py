"""`farm evaluate`: how good models are on simulated and recorded holes, as tables and plots."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from farm.cli import known
from farm.cli.model_option import label_of, load_named
from farm.cli.options import config_option, load, make_folder, models_dir_option
from farm.cli.progress import counting_progress
from farm.errors import FarmError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from farm.config import Config
    from farm.training.evaluate import Score, Verdict
    from farm.training.recorded import LabelledHole

_DEFAULT_MODELS = ("4", "1")
_LEGEND = """\
1sd, 2sd: share of keypoints within 1 and 1.96 sigma (68 % and 95 % are right)
wrong: off by over 1 mm, or a layer too many or too few, with high quality
none: good holes without an answer"""


@click.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    shell_complete=known.model_names,
    help="A model's number, its folder, or `rule`; may be repeated.  [default: 4 and 1]",
)
@models_dir_option
@click.option("--runtime", default="", help="Of depth networks: frozen, eager, bf16, int8 …")
@click.option(
    "--holes",
    type=click.IntRange(min=0),
    default=300,
    show_default=True,
    help="Simulated test holes of each family; 0 for none.",
)
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of recorded holes with an index.csv of labels.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write plots to: errors, calibration, realism, worst holes.",
)  # fmt: skip
@click.option("--worst", type=click.IntRange(min=0), default=6, show_default=True,
              help="Worst holes to draw.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Scores as JSON.")
@config_option
def command(
    *, models: tuple[str, ...], models_dir: Path | None, runtime: str, holes: int,
    data: Path | None, out: Path | None, worst: int, as_json: bool,
    config_path: Path | None,
) -> None:  # fmt: skip
    """Score models on holes with known keypoints, family by family.

    Simulated test holes come from a seed that no training may use, bad holes among them. Recorded
    holes need an index.csv of labels beside their folders (see `farm train --help`); their messages
    are read as the configuration says (mqtt.data_ids, limits).

    \b
    Examples:
      farm evaluate                              the network beside the rule
      farm evaluate --model 4 --runtime int8     another runtime of it
      farm evaluate --data holes/ --holes 0      on your own recorded holes alone
      farm evaluate --data holes/ --out report/  with plots
    """
    from farm.drilling.plotting import require  # noqa: PLC0415 - brings NumPy
    from farm.training.evaluate import judge, score  # noqa: PLC0415

    if not holes and data is None:
        raise click.UsageError("there is nothing to evaluate on: give --data, or --holes above 0")
    config = load(config_path).config
    if out:  # before minutes are spent on what could not be drawn
        require("matplotlib")
        make_folder(out)
    folder = models_dir or config.mqtt.processing.models_dir
    chosen = {}
    for name in models or _DEFAULT_MODELS:
        model = load_named(name, folder, runtime=runtime)
        chosen[label_of(name, model, runtime=runtime)] = model
    sets = _sets(holes, data, config)
    total = len(chosen) * sum(map(len, sets.values()))
    with counting_progress("evaluating", total) as progress:
        verdicts = {
            title: {label: judge(model, found, progress) for label, model in chosen.items()}
            for title, found in sets.items()
        }
    scores = {
        title: [s for name, found in of_set.items() for s in score(name, found)]
        for title, of_set in verdicts.items()
    }
    if as_json:
        _print_json(scores)
    else:
        for title, rows in scores.items():
            _print_tables(title, rows)
        click.echo(_LEGEND)
    if out:
        for path in _write_pages(out, sets, verdicts, worst):
            click.echo(f"wrote {path}", err=as_json)


def _sets(holes: int, data: Path | None, config: Config) -> dict[str, Sequence[LabelledHole]]:
    """What to evaluate on, by its name."""
    from farm.drilling.opcua import OpcUaReader  # noqa: PLC0415
    from farm.training.evaluate import simulated_holes  # noqa: PLC0415
    from farm.training.recorded import read_labelled  # noqa: PLC0415

    sets: dict[str, Sequence[LabelledHole]] = {}
    if data:
        reader = OpcUaReader(config.mqtt.data_ids, config.limits)
        sets["recorded"] = read_labelled(data, reader)
    return ({"simulated": simulated_holes(holes)} if holes else {}) | sets


def _print_json(scores: dict[str, list[Score]]) -> None:
    import json  # noqa: PLC0415

    from farm.training.card import metrics  # noqa: PLC0415

    told: dict[str, dict[str, Any]] = {}
    for title, rows in scores.items():
        of_set = told.setdefault(title, {})
        for name in dict.fromkeys(row.model for row in rows):
            of_set[name] = metrics([row for row in rows if row.model == name])
    click.echo(json.dumps(told, indent=1, allow_nan=False))


def _print_tables(title: str, scores: Sequence[Score]) -> None:
    """One table a model; each fits 80 columns."""
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from farm.training.evaluate import ALL, QUANTITIES  # noqa: PLC0415

    for name in dict.fromkeys(score.model for score in scores):
        table = Table(box=None, padding=(0, 1, 0, 0), title_justify="left", title_style="bold")
        table.title = f"{name} on {title} holes: |error| in mm, median/95 %"
        for head in ("family", "holes", *QUANTITIES, "1sd", "2sd", "wrong", "none"):
            table.add_column(head, justify="left" if head == "family" else "right", no_wrap=True)
        for row in (s for s in scores if s.model == name):
            table.add_row(*_row(row), style="bold" if row.family == ALL else "")
        Console().print(table)
        click.echo()


def _row(score: Score) -> list[str]:
    pairs = [
        "-" if np.isnan(median) else f"{_short(median)}/{_short(p95)}"
        for median, p95 in zip(score.median_mm, score.p95_mm, strict=True)
    ]
    shares = ["-" if np.isnan(share) else f"{share:.0%}" for share in score.coverage]
    wrong = f"{score.wrong_with_confidence:.1%}"
    return [score.family, str(score.holes), *pairs, *shares, wrong, str(score.refused)]


def _short(value_mm: float) -> str:
    """Three digits that matter: .023, 1.04, 12.3."""
    if value_mm < 1:
        return f"{value_mm:.3f}".removeprefix("0")
    return f"{value_mm:.2f}" if value_mm < 10 else f"{value_mm:.1f}"


def _write_pages(
    out: Path, sets: dict[str, Sequence[LabelledHole]],
    verdicts: dict[str, dict[str, list[Verdict]]], worst: int,
) -> list[Path]:  # fmt: skip
    """Write the plots; returns their paths."""
    from farm.training import report  # noqa: PLC0415
    from farm.training.statistics import by_family  # noqa: PLC0415

    pages = {f"errors-{title}": report.error_page(of_set) for title, of_set in verdicts.items()}
    first = {title: next(iter(of_set.values())) for title, of_set in verdicts.items()}
    pages["calibration"] = report.calibration_page(
        first.get("simulated", ()), first.get("recorded", ())
    )
    if len(sets) == 2:
        pages["realism"] = report.realism_page(
            by_family(report.under_simulated_names(sets["recorded"])), by_family(sets["simulated"])
        )
    if worst:
        for title, found in first.items():
            pages[f"worst-{title}"] = report.worst_page(found, worst)
    paths = []
    for name, figure in pages.items():
        paths.append(out / f"{name}.png")
        try:
            figure.savefig(paths[-1])
        except OSError as error:
            raise FarmError(f"can't write {paths[-1]}: {error.strerror}") from error
    return paths
