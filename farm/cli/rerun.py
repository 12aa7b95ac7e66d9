"""`farm rerun`: compute a hole again, from the very bytes, with the very model, and compare."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from farm.cli import known
from farm.cli.operator import place
from farm.cli.options import config_option, load, state_dir_option
from farm.errors import ExitCode, FarmError, ModelError
from farm.journal.ids import asked, told
from farm.journal.reader import JournalReader, KeptHole
from farm.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

    from farm.config import Config
    from farm.models.model import Model

_SHOWN_CHARS = 200


@click.command()
@config_option
@state_dir_option
@click.argument("tool", shell_complete=known.tools)
@click.argument("result_id", shell_complete=known.results)
@click.option(
    "--hole", "hole", metavar="HOLE", help="Which one, where there are several.  [newest]"
)
def command(
    config_path: Path | None, state_dir: Path | None, tool: str, result_id: str, hole: str | None
) -> None:
    """Compute a hole again, from the bytes in the journal with the model that answered it.

    Without --config and FARM_CONFIG the settings are those of the farm in that state directory, as
    they were in force last. A model or adapter of your own must be on PYTHONPATH.

    Prints both answers. Exit code 0 when they are the same, up to the rounding of another machine
    or batch; 1 when they differ.

    \b
    Examples:
      farm rerun BOX-7/UNIT-2 440
      farm rerun UNIT-2 440 --hole 8123-42
    """
    directory, _ = place(config_path, state_dir)
    config = load(config_path or _in_force(directory), state_dir=state_dir).config
    with JournalReader(directory) as journal:
        kept = _choose(journal, tool, result_id, hole)
        parts = journal.parts(kept)
    answer = _compute(config, kept, parts)
    from farm.broker.golden import alike  # noqa: PLC0415 - not for --help

    same = answer["status"] == kept.status and alike(answer["value"], kept.value)
    click.echo(
        printable(
            f"{told(kept.hole_id)}  {kept.source}  {kept.part_id}  {kept.model_version} "
            f"({kept.model_hash})"
        )
    )
    click.echo(f"  then  {_words(kept.status, kept.value, kept.reason)}")
    click.echo(f"  now   {_words(answer['status'], answer['value'], answer['reason'])}")
    exactly = answer["value"] == kept.value
    verdict = "the same" if exactly else "the same but for rounding"
    click.echo(f"  {verdict if same else 'they DIFFER'}")
    sys.exit(ExitCode.OK if same else ExitCode.FAILURE)


def _in_force(directory: Path) -> Path | None:
    """The configuration with which the farm of this directory answered, where none is named."""
    from farm.config.environment import CONFIG_VARIABLE  # noqa: PLC0415 - pydantic, not for --help
    from farm.supervisor.in_force import COPY_NAME  # noqa: PLC0415

    copy = directory / COPY_NAME
    return copy if not os.environ.get(CONFIG_VARIABLE) and copy.is_file() else None


def _choose(journal: JournalReader, tool: str, result_id: str, hole: str | None) -> KeptHole:
    found = journal.find(tool, result_id)
    if hole is not None:
        try:
            wanted = asked(hole)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--hole") from None
        found = [one for one in found if one.hole_id == wanted]
    computed = [one for one in found if one.model_hash]
    if computed:
        return computed[-1]
    if found:
        raise FarmError(
            f"no model has answered {tool} {result_id} (`farm why` tells the story): there is "
            "nothing to compare with"
        )
    raise FarmError(f"the journal knows no such hole of {tool}: `farm why` says what it knows")


def _compute(config: Config, kept: KeptHole, parts: dict[str, bytes]) -> dict[str, Any]:
    from farm.adapter import load_adapter  # noqa: PLC0415 - numpy and the models, not for --help
    from farm.worker.compute import Computer  # noqa: PLC0415
    from farm.worker.equipment import limit_threads  # noqa: PLC0415

    limit_threads(config.workers.threads)
    model = _model_of(config, kept)
    model.warm_up()
    return Computer(model, load_adapter(config)).check(parts)


def _model_of(config: Config, kept: KeptHole) -> Model:
    """The model with the recorded hash: the configured one, or one of all that are here."""
    from farm.models.registry import load_model, model_folders  # noqa: PLC0415

    processing = config.mqtt.processing
    models_dir = processing.models_dir
    settings = config.model_settings
    choices = [(config.model, processing.model_id), *(("", n) for n in model_folders(models_dir))]
    problems = []
    for spec, number in dict.fromkeys(choices):
        try:
            model = load_model(spec, number, settings, models_dir)
        except (FarmError, OSError) as error:
            problems.append(str(error))
            continue
        if model.content_hash == kept.model_hash:
            return model
    raise ModelError(
        f"the model that answered, {kept.model_version} with hash {kept.model_hash}, is not here: "
        "name the folder of its version with mqtt.processing.models_dir"
        + "".join(f"\n  {problem}" for problem in problems)
    )


def _words(status: str, value: Any, reason: str) -> str:
    return printable(f"{status}: {reason or repr(value)[:_SHOWN_CHARS]}")
