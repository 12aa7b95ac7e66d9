"""`farm config`: check, show and describe the configuration."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from farm.cli.group import Group
from farm.cli.options import config_option, load, state_dir_option
from farm.config.load import DEFAULT
from farm.config.show import schema, shown
from farm.references import check_references

if TYPE_CHECKING:
    from pathlib import Path

    from farm.config import Loaded


@click.group(cls=Group)
def command() -> None:
    """Check, show and describe the configuration.

    What counts, the strongest first: command line, environment (FARM_MQTT__BROKER__PORT=1884),
    file, default. etc/farm.yaml has every key with its default and what it is for.

    \b
    Examples:
      farm config check --config etc/farm.yaml
      farm config show --changed
    """


@command.command()
@config_option
@state_dir_option
def check(config_path: Path | None, state_dir: Path | None) -> None:
    """Say whether the configuration is usable; exit code 3 when it is not.

    The modules and files that it names must be there.

    \b
    Examples:
      farm config check --config etc/farm.yaml
      FARM_WORKERS=4 farm config check
    """
    loaded = load(config_path, state_dir=state_dir)
    click.echo(_what_was_read(loaded))
    for note in loaded.notes:
        click.echo(f"note: {note}")
    check_references(loaded.config)
    click.echo("OK")


@command.command()
@config_option
@state_dir_option
@click.option("--changed", is_flag=True, help="Only what was given, not the defaults.")
def show(config_path: Path | None, state_dir: Path | None, changed: bool) -> None:
    """Print the configuration in force as YAML, each value with where it came from.

    Passwords are shown as ********.

    \b
    Examples:
      farm config show --config etc/farm.yaml
      farm config show --changed                   only what is not a default
    """
    loaded = load(config_path, state_dir=state_dir)
    sys.stdout.write(shown(loaded, only_changed=changed))


@command.command(name="schema")
@config_option
def print_schema(config_path: Path | None) -> None:
    """Print the JSON schema of the configuration file, for editors and other tools.

    With --config, also check that file first.

    \b
    Examples:
      farm config schema > farm.schema.json
    """
    if config_path is not None:
        load(config_path)
    click.echo(json.dumps(schema(), indent=2))


@command.command()
def reference() -> None:
    """Print a page of every key in Markdown, with default, bounds and what it is for.

    docs/configuration.md is that page.

    \b
    Example:
      farm config reference > docs/configuration.md
    """
    from farm.config.reference import page  # noqa: PLC0415 - for this alone

    sys.stdout.write(page())


def _what_was_read(loaded: Loaded) -> str:
    if loaded.path is None:
        source = "no file: built-in defaults (--config FILE or FARM_CONFIG names one)"
    else:
        source = f"read {loaded.path}"
    origins = [origin.partition(" ")[0] for origin in loaded.origins.values() if origin != DEFAULT]
    counts = {
        "from the file": origins.count("file"),
        "from the environment": origins.count("environment"),
        "from the command line": origins.count("command"),
    }
    told = [f"{count} {where}" for where, count in counts.items() if count]
    return f"{source}; values: {', '.join(told) or 'all default'}"
