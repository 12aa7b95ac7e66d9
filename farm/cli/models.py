"""`farm models`: which there are, what they say of themselves, and whether they are whole."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from farm.cli import known
from farm.cli.group import Group
from farm.cli.models_bench import bench
from farm.cli.options import config_option, load
from farm.errors import ModelError
from farm.models.package import CARD, INT8, ONNX, WEIGHTS, Package, open_package
from farm.models.registry import (
    ALIASES,
    DEFAULT_ID,
    find_package,
    kind_of,
    load_model,
    model_folders,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.console import JustifyMethod, RenderableType

    FindDir = Callable[[], Path | None]

_HASH_CHARS: Final = 16  # as it is published with each answer
_CHIEF: Final = ("holes", "entry_mm", "transition_mm", "exit_mm", "depth_mm", "coverage")


@click.group(cls=Group)
@click.option(
    "--models-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where models of your own are, each in a folder named by its number.  "
    "[default: mqtt.processing.models_dir of the configuration]",
)
@config_option
@click.pass_context
def command(ctx: click.Context, models_dir: Path | None, config_path: Path | None) -> None:
    """List, show and verify the models.

    A model is a folder, named by its number, with weights, a manifest and a card. A site's own, in
    --models-dir, go before built-in ones of the same number.

    \b
    Examples:
      farm models list
      farm models show 4
      farm models --models-dir models verify
    """
    # Found out only once a subcommand needs it: its --help must not depend on a configuration.
    ctx.obj = partial(_models_dir, models_dir, config_path)


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a model, as a list.")
@click.pass_obj
def list_models(find_dir: FindDir, *, as_json: bool) -> None:
    """List the models: number, name, kind, hash, size, date and licence.

    \b
    Examples:
      farm models list
      farm models --models-dir models list --json
    """
    rows = [_row(number, folder) for number, folder in model_folders(find_dir()).items()]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    from rich.console import Console  # noqa: PLC0415 - not needed for --json
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for head in ("id", "name", "kind", "hash", "size", "made", "licence", ""):
        justify: JustifyMethod = "right" if head in ("id", "size") else "left"
        table.add_column(head, justify=justify, no_wrap=head in ("id", "hash"))
    for row in rows:
        size = f"{row['bytes'] / 1e6:.2f} MB" if row["bytes"] else "-"
        note = row["problem"] and "unusable: `farm models verify` says why"
        note = note or ("default" if row["is_default"] else "")
        told = [row["name"], row["kind"], row["hash"], size, row["made"], row["licence"], note]
        table.add_row(str(row["id"]), *(text or "-" for text in told[:-1]), told[-1])
    Console().print(table)
    click.echo(f"{_alias_words()} (the former system's networks)")


@command.command()
@click.argument("model_id", metavar="ID", type=int, shell_complete=known.models)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as it stands.")
@click.pass_obj
def show(find_dir: FindDir, model_id: int, *, as_json: bool) -> None:
    """Show what a model says of itself: its manifest, then its card.

    \b
    Examples:
      farm models show 4
      farm models show 4 --json | jq .metrics
    """
    package = find_package(model_id, find_dir())
    if as_json:
        click.echo(json.dumps(asdict(package.manifest), indent=1, sort_keys=True))
        return
    from rich.console import Console  # noqa: PLC0415 - not needed for --json

    console = Console()
    for part in _manifest_parts(package):
        console.print(part)
    _print_card(console, package)


@command.command()
@click.argument("model_ids", metavar="[ID]...", nargs=-1, type=int, shell_complete=known.models)
@click.option("--hashes-only", is_flag=True, help="Don't load the models: compare files only.")
@click.pass_obj
def verify(find_dir: FindDir, model_ids: tuple[int, ...], *, hashes_only: bool) -> None:
    """Compare every file with its manifest, and load the model to prove that its weights fit.

    Without ID, all models. Exit code 8 when one of them is not as it should be.

    \b
    Examples:
      farm models verify
      farm models verify 4 --hashes-only           without loading PyTorch
    """
    models_dir, failed = find_dir(), False
    for number in model_ids or model_folders(models_dir):
        try:
            told = _verify(number, models_dir, hashes_only=hashes_only)
        except ModelError as error:
            told, failed = f"FAILED: {error}", True
        click.echo(f"{number:>3}  {told}")
    if failed:
        sys.exit(ModelError.exit_code)


command.add_command(bench)


def _models_dir(given: Path | None, config_path: Path | None) -> Path | None:
    return given or load(config_path).config.mqtt.processing.models_dir


def _row(number: int, folder: Path) -> dict[str, Any]:
    """What the list says of a model."""
    row: dict[str, Any] = {
        "id": number, "name": "", "kind": "", "hash": "", "bytes": 0, "made": "", "licence": "",
        "is_default": number == DEFAULT_ID,
        "aliases": [alias for alias, of in ALIASES.items() if of == number],
        "folder": str(folder), "problem": "",
    }  # fmt: skip
    try:
        package = open_package(folder)
        manifest = package.manifest
        row |= {"name": manifest.name, "made": manifest.made, "licence": manifest.licence}
        row |= {"kind": kind_of(package), "hash": _hash(package)}
        row["bytes"] = sum((folder / name).stat().st_size for name in manifest.sha256)
    except (ModelError, OSError) as error:
        row["problem"] = str(error)
    return row


def _hash(package: Package) -> str:
    """What is published as ModelHash: of the weights, or of a rule's own text."""
    if WEIGHTS in package.manifest.sha256:
        return package.short_hash(WEIGHTS)
    return load_model("rule", 1, {}).content_hash if kind_of(package) == "rule" else ""


def _alias_words() -> str:
    heirs = sorted(set(ALIASES.values()))
    return "; ".join(
        f"{' and '.join(str(a) for a, of in ALIASES.items() if of == heir)} also mean {heir}"
        for heir in heirs
    )


def _manifest_parts(package: Package) -> list[RenderableType]:
    """The manifest's parts, ready to be printed."""
    from rich.table import Table  # noqa: PLC0415

    manifest = package.manifest
    facts = Table.grid(padding=(0, 2))
    general = {"name": manifest.name, "made": manifest.made or "-", "licence": manifest.licence,
               "folder": package.folder}  # fmt: skip
    for part, told in ((None, general), ("architecture", manifest.architecture),
                       ("training", manifest.training)):  # fmt: skip
        for key, value in told.items():
            facts.add_row(f"[bold]{part + ' ' if part else ''}{key}", _shown(value))
    files = Table("file", "sha256", box=None, pad_edge=False)
    for name, digest in manifest.sha256.items():
        files.add_row(name, f"{digest[:_HASH_CHARS]}…")
    parts: list[RenderableType] = [facts]
    if manifest.metrics:
        parts += ["", _metrics_table(manifest.metrics)]
    return [*parts, "", files] if manifest.sha256 else parts


def _metrics_table(metrics: Mapping[str, Any]) -> RenderableType:
    """The metrics: a row for each family; of ours the chief ones, of others' models all.

    Two digits each, so that it fits 80 columns; --json has all of them.
    """
    from rich.table import Table  # noqa: PLC0415

    rows = {f: m if isinstance(m, dict) else {"value": m} for f, m in metrics.items()}
    there = dict.fromkeys(name for row in rows.values() for name in row)
    columns = [name for name in _CHIEF if name in there] or list(there)
    heads = [column.replace("_", "\n") for column in columns]
    table = Table("family", *heads, title="metrics", title_justify="left", box=None, pad_edge=False,
                  padding=(0, 1, 0, 0))  # fmt: skip
    for family, row in rows.items():
        table.add_row(family, *(_shown(row.get(c, "-"), digits=2, sep="/") for c in columns))
    return table


def _shown(value: object, *, digits: int = 4, sep: str = " / ") -> str:
    if isinstance(value, list):
        return sep.join(_shown(each, digits=digits) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(each, digits=digits)}" for key, each in value.items())
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def _print_card(console: Any, package: Package) -> None:
    from rich.markdown import Markdown  # noqa: PLC0415

    path = package.folder / CARD
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        console.print(f"\nThis model has no card ({CARD}).", markup=False)
        return
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"can't read the card {path}: {error}") from error
    console.print()
    console.print(Markdown(text))


def _verify(number: int, models_dir: Path | None, *, hashes_only: bool) -> str:
    """What was found right, in words.

    Raises:
        ModelError: something was not.
    """
    folder = model_folders(models_dir).get(number)
    # A folder without manifest would be passed over by the registry: here it is an error.
    package = open_package(folder) if folder else find_package(number, models_dir)
    files = package.verify()
    named = ", ".join(files) or "no file to compare"
    told = f"{package.manifest.name}  OK: {named}"
    if hashes_only:
        return told
    kind = kind_of(package)
    if kind != "depthnet":
        load_model(kind, number, {}).warm_up()
        return f"{told}; it runs"
    from farm.models.ort import has_onnxruntime  # noqa: PLC0415
    from farm.models.runtime import EXACT  # noqa: PLC0415 - brings NumPy

    others = [name for name, file in (("onnx", ONNX), ("int8", INT8)) if file in files]
    names = [EXACT, *(others if has_onnxruntime() else ())]
    for name in names:
        settings = {"weights": str(package.folder), "runtime": name}
        load_model(kind, number, settings).warm_up()
    return f"{told}; it runs as {', '.join(names)}"
