"""`farm train`: make new weights for the built-in depth network, and show how good they are."""

from __future__ import annotations

from pathlib import Path

import click

from farm.errors import ConfigError


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0.01), default=15.0, show_default=True)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The weights file: written, or with --evaluate-only read.  "
    "[default: ./depthnet.pt written, the built-in weights read]",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option(
    "--holes",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Simulated test holes of each family.",
)
@click.option(
    "--evaluate-only", is_flag=True, help="Don't train: score the weights that are there."
)
def command(
    *, minutes: float, out: Path | None, seed: int, holes: int, evaluate_only: bool
) -> None:
    """Train the built-in depth network on simulated traces, then score it against the rule.

    Real holes are neither needed nor read. The longer, the better: 15 minutes on two cores are
    enough for a usable network.

    \b
    Examples:
      farm train --minutes 0.1 --out /tmp/try.pt      see that it works
      farm train --minutes 15 --out depthnet.pt       then name it in model_settings.weights
      farm train --evaluate-only                      score the built-in weights
      farm train --evaluate-only --out depthnet.pt    score your own
    """
    # torch takes seconds to import: only once the options are known to be right.
    from farm.training.evaluate import TEST_SEED  # noqa: PLC0415
    from farm.training.train import train  # noqa: PLC0415

    if seed == TEST_SEED:
        raise ConfigError(f"--seed {seed} is the test holes': choose another")
    if not evaluate_only:
        out = out or Path("depthnet.pt")
        train(minutes=minutes, seed=seed, out=out, progress=click.echo)
    click.echo(_scores(out, holes))


def _scores(weights: Path | None, holes: int) -> str:
    """The table of the network, with these weights or the built-in ones, beside the rule."""
    from farm.models.registry import load_model  # noqa: PLC0415
    from farm.training.evaluate import draw_holes, evaluate, table  # noqa: PLC0415

    settings = {"weights": str(weights)} if weights else {}
    models = {
        "depthnet": load_model("depthnet", 1, settings),
        "rule": load_model("rule", 1, {}),
    }
    return table(evaluate(models, draw_holes(holes)))
