"""`farm train`: make new weights for the depth network, and show how good they are."""

from __future__ import annotations

from pathlib import Path

import click

from farm.cli.progress import training_progress
from farm.errors import ConfigError


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
    default=2_000_000,
    show_default=True,
    help="To learn from, in all.",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
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
@click.option("--start", "start_id", type=int, help="Begin with the weights of this model.")
@click.option("--resume", is_flag=True, help="Go on with the run that was stopped in --out.")
@click.option("--name", default="depthnet-own", show_default=True, help="Published as AlgoVersion.")
@click.option("--test-holes", type=click.IntRange(min=1), default=200, show_default=True,
              help="Of each family, to score the result on.")  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--half/--no-half", default=None, help="Compute in bfloat16.  [default: where fast]")
def command(
    *, out: Path, holes: int, seed: int, data: Path | None, data_share: float,
    start_id: int | None, resume: bool, name: str, test_holes: int, threads: int,
    half: bool | None,
) -> None:  # fmt: skip
    """Train the depth network on simulated holes, and on recorded ones if you have any.

    The result is a folder: weights, a manifest and a model card. Name it in model_settings.weights,
    or call it a number and put it into mqtt.processing.models_dir. Stopped with Ctrl-C, a run can
    be taken up again with --resume.

    \b
    The labels of --data are an index.csv beside the holes' folders, one row a hole:
      hole,entry_mm,transition_mm,exit_mm
      0042,5.02,14.88,18.26          a transition may be empty: one material
    in mm of |position|, where the torque begins to rise or, at the exit, to fall.

    \b
    Examples:
      farm train --holes 5000 --out /tmp/try            see that it works, in a minute
      farm train --out models/10                        train anew, an hour of one core
      farm train --data holes/ --start 4 --holes 200000 --out models/11
                                                        suit the shipped network to your own holes
      farm train --out models/10 --resume               go on after Ctrl-C
    """
    # torch takes seconds to import: only once the options are known to be right.
    from farm.models.registry import find_package  # noqa: PLC0415
    from farm.training.calibrate import CALIBRATION_SEED  # noqa: PLC0415
    from farm.training.evaluate import TEST_SEED  # noqa: PLC0415
    from farm.training.publish import publish  # noqa: PLC0415
    from farm.training.recorded import read_labelled  # noqa: PLC0415
    from farm.training.train import Plan, has_fast_half, train  # noqa: PLC0415

    if seed in (TEST_SEED, CALIBRATION_SEED):
        raise ConfigError(f"--seed {seed} is that of the test holes: choose another")
    plan = Plan(
        holes=holes,
        seed=seed,
        threads=threads,
        start=str(find_package(start_id).folder) if start_id else "",
        data_share=data_share if data else 0.0,
        half=has_fast_half() if half is None else half,
    )
    recorded = read_labelled(data) if data else ()
    try:
        with training_progress(plan.steps * plan.batch) as progress:
            trained = train(plan, folder=out, progress=progress, resume=resume, recorded=recorded)
    except KeyboardInterrupt:
        raise click.ClickException(
            f"stopped; the same command with --resume goes on where it was (state in {out})"
        ) from None
    click.echo(f"trained in {trained.told['cpu_s']} s of CPU; scaling sigmas and scoring")
    package = publish(
        trained, out, name=name, test_holes=test_holes,
        calibration_holes=min(20_000, max(1_000, holes // 50)),
    )  # fmt: skip
    click.echo((package.folder / "CARD.md").read_text(encoding="utf-8"))
    click.echo(f"wrote {package.folder}: use it with model_settings: {{weights: {package.folder}}}")
