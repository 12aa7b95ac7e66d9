"""`farm train`: make new weights for the depth network, and show how good they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from farm.cli import known
from farm.cli.options import config_option, load, make_folder, models_dir_option
from farm.cli.progress import training_progress
from farm.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from farm.models.package import Package
    from farm.training.recorded import LabelledHole
    from farm.training.train import Plan


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("depthnet"),
    show_default=True,
    help="Folder of the new model.",
)
@click.option(
    "--holes",
    type=click.IntRange(min=64),
    default=1_650_000,
    show_default=True,
    help="To learn from, in all. The default takes about an hour of one core where the processor "
    "computes in bfloat16, twice that elsewhere.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Of everything random in it.",
)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of recorded holes with an index.csv of labels, to be mixed in.",
)
@click.option(
    "--data-share",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.3,
    show_default=True,
    help="Share of the recorded holes in what is learnt from.",
)
@click.option(
    "--start",
    "start_id",
    type=int,
    metavar="ID",
    shell_complete=known.models,
    help="Begin with the weights of this model.  [default: with random ones]",
)
@models_dir_option
@click.option("--resume", is_flag=True, help="Go on with the run that was stopped in --out.")
@click.option("--overwrite", is_flag=True, help="Replace the run or the model that is in --out.")
@click.option("--name", default="depthnet-own", show_default=True, help="Published as AlgoVersion.")
@click.option("--test-holes", type=click.IntRange(min=1), default=200, show_default=True,
              help="Of each family, to score the result on.")  # fmt: skip
@click.option(
    "--notes",
    type=click.File(encoding="utf-8"),
    help="Markdown for the end of the model's card.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Threads of PyTorch; as many as you have cores.",
)
@click.option("--half/--no-half", default=None, help="Compute in bfloat16.  [default: where fast]")
@config_option
def command(
    *, out: Path, holes: int, seed: int, data: Path | None, data_share: float,
    start_id: int | None, models_dir: Path | None, resume: bool, overwrite: bool, name: str,
    test_holes: int, notes: TextIO | None, threads: int, half: bool | None,
    config_path: Path | None,
) -> None:  # fmt: skip
    """Train the depth network on simulated holes, and on recorded ones if you have any.

    The result is a folder: weights, a manifest and a model card. Name it in model_settings.weights,
    or call it a number and put it into mqtt.processing.models_dir. Stopped with Ctrl-C, a run can
    be taken up again with --resume.

    \b
    The labels of --data are an index.csv beside the holes' folders, a row each:
      hole,entry_mm,transition_mm,exit_mm
      0042,5.99,11.97,21.23          a transition may be empty: one material
    in mm of |position|, where the torque begins to rise or, at the exit, to fall.
    The messages are read as the configuration says (mqtt.data_ids, limits).

    \b
    Examples:
      farm train --holes 5000 --out /tmp/try      see that it works, in a minute
      farm train --out models/10                  train anew, an hour of one core
      farm train --data holes/ --start 4 --holes 200000 --out models/11
                                             suit the shipped one to your holes
      farm train --out models/10 --resume         go on after Ctrl-C
    """
    if resume and overwrite:
        raise click.UsageError("--resume goes on with what --overwrite would replace: choose one")
    config = load(config_path).config
    # torch takes seconds to import: only once the options are known to be right.
    from farm.drilling.opcua import OpcUaReader  # noqa: PLC0415
    from farm.training.calibrate import CALIBRATION_SEED  # noqa: PLC0415
    from farm.training.checkpoint import claim_folder  # noqa: PLC0415
    from farm.training.evaluate import TEST_SEED  # noqa: PLC0415
    from farm.training.recorded import read_labelled  # noqa: PLC0415
    from farm.training.train import Plan, has_fast_half  # noqa: PLC0415

    if seed in (TEST_SEED, CALIBRATION_SEED):
        raise ConfigError(f"--seed {seed} is that of the test holes: choose another")
    plan = Plan(
        holes=holes,
        seed=seed,
        threads=threads,
        start=_start(start_id, models_dir or config.mqtt.processing.models_dir),
        data_share=data_share if data else 0.0,
        half=has_fast_half() if half is None else half,
    )
    reader = OpcUaReader(config.mqtt.data_ids, config.limits)
    recorded = read_labelled(data, reader) if data else ()
    appended = notes.read() if notes else ""
    make_folder(out)
    claim_folder(out, resume=resume, overwrite=overwrite)
    try:
        package = _make(
            plan, out, recorded, resume=resume, name=name, test_holes=test_holes, notes=appended
        )
    except KeyboardInterrupt:
        raise click.ClickException(_stopped(out)) from None
    click.echo((package.folder / "CARD.md").read_text(encoding="utf-8"))
    click.echo(f"wrote {package.folder}: use it with model_settings: {{weights: {package.folder}}}")


def _start(model_id: int | None, models_dir: Path | None) -> str:
    """The folder of the model whose weights to begin with; "" for none.

    Raises:
        ModelError: there is no such model, or it has no weights to begin with.
    """
    from farm.models.registry import find_package, kind_of  # noqa: PLC0415

    if model_id is None:
        return ""
    package = find_package(model_id, models_dir)
    if (kind := kind_of(package)) != "depthnet":
        raise ModelError(
            f"--start {model_id} is of the kind {kind}: only a depthnet has weights to begin with; "
            "`farm models list` shows which are"
        )
    return str(package.folder)


def _make(
    plan: Plan, out: Path, recorded: tuple[LabelledHole, ...], *, resume: bool, name: str,
    test_holes: int, notes: str,
) -> Package:  # fmt: skip
    """Train and publish; the run's state goes only once the model is there."""
    from farm.training.checkpoint import CHECKPOINT  # noqa: PLC0415
    from farm.training.publish import publish  # noqa: PLC0415
    from farm.training.train import train  # noqa: PLC0415

    with training_progress(plan.steps * plan.batch) as progress:
        trained = train(plan, folder=out, progress=progress, resume=resume, recorded=recorded)
    click.echo(f"trained in {trained.told['cpu_s']} s of CPU; scaling sigmas and scoring")
    package = publish(
        trained, out, name=name, test_holes=test_holes,
        calibration_holes=min(20_000, max(1_000, plan.holes // 50)), notes=notes,
    )  # fmt: skip
    (out / CHECKPOINT).unlink(missing_ok=True)
    return package


def _stopped(out: Path) -> str:
    """What Ctrl-C leaves, and what to do next."""
    from farm.training.checkpoint import CHECKPOINT  # noqa: PLC0415

    if not (out / CHECKPOINT).exists():
        return "stopped before anything was learnt: give the same command again"
    return f"stopped; the same command with --resume goes on where it was (state in {out})"
