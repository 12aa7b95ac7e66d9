"""`farm simulate`: write simulated holes as message files."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from farm.errors import FarmError
from farm.simulation.archive import INDEX_FILE, write_archive
from farm.simulation.drilled import SAMPLE_RECIPES, Recipe, samples, series
from farm.simulation.gateway import STYLES
from farm.training.programs import FAMILIES, PROGRAMS


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--program",
    "programs",
    type=click.Choice(list(FAMILIES)),
    multiple=True,
    help="Drilling program; may be given several times.  [default: all but the wide ones in turn]",
)
@click.option(
    "--style",
    "styles",
    type=click.Choice(list(STYLES)),
    multiple=True,
    help="Gateway style; may be given several times.  [default: all in turn]",
)
@click.option("--single-step", is_flag=True, help="Drill only the first cutting step.")
@click.option(
    "--faults",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Bad holes among them: 1 for the share of a bad day, about three in ten.",
)
@click.option("--count", type=click.IntRange(1), default=10, show_default=True, help="Holes.")
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Same seed, same bytes."
)
@click.option(
    "--samples", "want_samples", is_flag=True, help="Rewrite the set of samples/ instead."
)
def command(
    folder: Path,
    *,
    programs: tuple[str, ...],
    styles: tuple[str, ...],
    single_step: bool,
    faults: float,
    count: int,
    seed: int,
    want_samples: bool,
) -> None:
    """Write simulated holes into DIR, one folder each, with the exact truth in index.csv.

    \b
    Examples:
      farm simulate holes --program MDB --style 2025-06 --count 20
      farm simulate bad --faults 3 --count 50    aborted, in air, dead channels …
      farm simulate samples --samples
      farm replay holes --rate 5                   publish them
    """
    recipes = [
        Recipe(program, style, single_step, faults)
        for program in programs or PROGRAMS
        for style in styles or STYLES
    ]
    total = len(SAMPLE_RECIPES) if want_samples else count
    holes = samples() if want_samples else series(recipes, count=count, seed=seed)
    try:
        with click.progressbar(holes, length=total, label="drilling", file=sys.stderr) as shown:
            names = write_archive(folder, shown)
    except OSError as error:
        raise FarmError(
            f"{error.filename}: {error.strerror}: make room, or choose another DIR"
        ) from error
    size = sum(file.stat().st_size for name in names for file in (folder / name).iterdir())
    click.echo(f"{len(names)} holes, {size / 1e6:.2f} MB, truth in {folder / INDEX_FILE}")
