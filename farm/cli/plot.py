"""`farm plot`: one hole with its steps and keypoints, in the terminal or as an image."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import click

from farm.cli import known
from farm.cli.model_option import load_named
from farm.cli.options import config_option, load, models_dir_option
from farm.errors import FarmError
from farm.printable import printable

if TYPE_CHECKING:
    from farm.config import Config
    from farm.drilling.hole import Hole
    from farm.drilling.picture import Answer, By
    from farm.models.model import Model

_TITLE_CHARS: Final = 120  # a line above an image


@click.command()
@click.argument("folder", metavar="HOLE", type=click.Path(file_okay=False, path_type=Path))
@click.argument("name", required=False)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.png",
    help="Write an image, with a zoom around each keypoint.  [default: draw in the terminal]",
)
@click.option(
    "--model",
    "model_name",
    metavar="MODEL",
    shell_complete=known.model_names,
    help="A model's number, its folder, or `rule`.  [default: the configured one, which is 4]",
)
@models_dir_option
@click.option(
    "--truth", "want_truth", is_flag=True, help="Draw the keypoints of index.csv beside HOLE too."
)
@click.option(
    "--by",
    type=click.Choice(["position", "time"]),
    default="position",
    show_default=True,
    help="What to draw over.",
)
@config_option
def command(
    folder: Path,
    name: str | None,
    *,
    out: Path | None,
    model_name: str | None,
    models_dir: Path | None,
    want_truth: bool,
    by: str,
    config_path: Path | None,
) -> None:
    """Draw a hole: torque, thrust, the steps, and the keypoints that a model finds.

    HOLE is a folder with ResultManagement.json and Trace.json, as `farm simulate` writes them; or a
    folder of such folders, with the NAME of one, or how it begins.

    \b
    Examples:
      farm plot samples/02-MDB-2025-03            in the terminal
      farm plot samples 04 --by time              the hole that begins with 04
      farm plot samples 02 --truth --out hole.png  an image, with the truth
      farm plot samples 02 --model rule           what the rule says of it
    """
    if out is not None and out.suffix.lower() != ".png":
        raise click.BadParameter(f"{out}: must end in .png", param_hint="--out")
    config = load(config_path).config
    chosen = _choose(folder, name)
    hole = _read(chosen, config)
    truth = _truth(chosen) if want_truth else None
    model = _load(model_name, config, models_dir)
    answer: Answer = model.infer([hole])[0]
    heading = f"{chosen.name}, model {model.version} ({model.content_hash})"
    if out is not None:
        _write(out, hole, answer, truth, heading=heading, by=cast("By", by))
    else:
        _show(hole, answer, truth, heading=heading, by=cast("By", by))


def _choose(folder: Path, name: str | None) -> Path:
    """The folder of the hole that is meant."""
    from farm.simulation.archive import RESULT_FILE  # noqa: PLC0415

    if name is None and (folder / RESULT_FILE).is_file():
        return folder.resolve()
    try:
        names = sorted(each.name for each in folder.iterdir() if (each / RESULT_FILE).is_file())
    except OSError as error:
        raise FarmError(f"{folder}: {error.strerror}: name the folder of a hole") from error
    if not names:
        raise FarmError(f"{folder}: no hole found: `farm simulate DIR` writes some")
    fitting = [each for each in names if each.startswith(name or "")]
    if name in names or len(fitting) == 1:
        return (folder / (name if name in names else fitting[0])).resolve()
    shown = textwrap.shorten(", ".join(fitting or names), 200, placeholder=" …")
    problem = "several holes" if fitting else f"no hole {name}"
    raise FarmError(f"{folder} holds {problem}: name one of {shown}")


def _read(folder: Path, config: Config) -> Hole:
    from farm.drilling.opcua import OpcUaReader  # noqa: PLC0415
    from farm.training.recorded import read_messages  # noqa: PLC0415

    return read_messages(folder, OpcUaReader(config.mqtt.data_ids, config.limits))


def _truth(folder: Path) -> tuple[float, ...] | None:
    """The reference keypoints of a hole in mm, NaN where it has none; None if nobody knows."""
    from farm.simulation.archive import INDEX_FILE  # noqa: PLC0415
    from farm.training.recorded import read_index  # noqa: PLC0415

    index = folder.parent / INDEX_FILE
    label = read_index(index).get(folder.name)
    if label is None:
        click.echo(f"farm: {index} does not name {folder.name}: no reference keypoints", err=True)
        return None
    return label.keypoints_mm


def _load(name: str | None, config: Config, models_dir: Path | None) -> Model:
    """The model that is asked for, else the configured one."""
    from farm.models.registry import load_model  # noqa: PLC0415 - brings NumPy

    processing = config.mqtt.processing
    folder = models_dir or processing.models_dir
    if name is not None:
        return load_named(name, folder)
    return load_model(config.model, processing.model_id, config.model_settings, folder)


def _write(
    path: Path, hole: Hole, answer: Answer, truth: tuple[float, ...] | None, *, heading: str, by: By
) -> None:
    from farm.drilling.picture import outcome  # noqa: PLC0415
    from farm.drilling.plotting import hole_figure, write_png  # noqa: PLC0415

    title = "\n".join(_lines(heading, outcome(answer), _TITLE_CHARS))
    write_png(hole_figure(hole, answer, truth, title=title, by=by), path)
    click.echo(printable(f"wrote {path}: {outcome(answer)}"))


def _show(
    hole: Hole, answer: Answer, truth: tuple[float, ...] | None, *, heading: str, by: By
) -> None:
    from rich.console import Console  # noqa: PLC0415

    from farm.drilling.picture import outcome  # noqa: PLC0415
    from farm.drilling.terminal import hole_text  # noqa: PLC0415

    console = Console()
    colour = console.is_terminal and not console.no_color and not console.is_dumb_terminal
    lines = _lines(heading, outcome(answer), console.width)
    height = console.height - len(lines) - 1  # for the prompt
    drawn = hole_text(hole, answer, truth, width=console.width, height=height, colour=colour, by=by)
    # Not through rich, which would read the drawing's own colour codes as text.
    click.echo("\n".join([*lines, drawn]), color=colour)


def _lines(heading: str, told: str, width: int) -> list[str]:
    return [*textwrap.wrap(printable(heading), width), *textwrap.wrap(printable(told), width)]
