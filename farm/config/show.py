"""The configuration as people and other processes see it.

Owns three views: YAML with the origin of each value, the JSON schema, and what workers get.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from farm.config.keys import HIDDEN, UNUSED_KEYS, join, masked, tree
from farm.config.load import DEFAULT, Loaded
from farm.config.tree import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

# What neither adapter nor model can depend on: how processes are launched, watched and counted.
_NOT_FOR_MODELS = (
    "supervisor",
    "journal",
    "log",
    "overload",
    "dispatch",
    "dead_letters",
    "throughput",
    "telemetry",
    "intake",
    "attach",
    "partition",
    "ray",
)
_COMMENT_COLUMN = 48  # where the origins start, unless a value is longer


def shown(loaded: Loaded, *, only_changed: bool = False) -> str:
    """The configuration as YAML, each value with its origin; secrets hidden.

    Args:
        loaded: what `load_config` gave.
        only_changed: leave out what has its default.
    """
    lines = list(_section_lines(loaded, "", "", only_changed=only_changed))
    return "\n".join(lines) + "\n" if lines else "# everything has its default\n"


def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of the configuration file, for editors."""
    made = Config.model_json_schema()
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["title"] = "farm configuration"
    return made


def worker_view(config: Config) -> dict[str, Any]:
    """What a worker is told of the configuration, fit for JSON: no MQTT access, no local folders.

    `Config.model_validate` makes a `Config` of it again, with defaults for what is left out.
    """
    left_out: dict[str, Any] = {
        "state_dir": True,
        "metrics": True,
        "mqtt": {"broker": True, "publisher": True, "analyzer": True},
        "page": True,
    }
    return config.model_dump(mode="json", exclude=left_out)


def model_view(config: Config) -> dict[str, Any]:
    """Of that what an adapter or a model may depend on: not how workers are kept."""
    view = worker_view(config)
    del view["mqtt"]["processing"]["workers"]
    for section in _NOT_FOR_MODELS:
        del view[section]
    view["workers"] = {"threads": view["workers"]["threads"]}
    return view


def value_of(config: Config, key: str) -> Any:
    """The value of a dotted key."""
    found: Any = config
    for name in key.split("."):
        found = getattr(found, name)
    return found


def _section_lines(
    loaded: Loaded, section: str, indent: str, *, only_changed: bool
) -> Iterator[str]:
    for name in tree().children(section):
        key = join(section, name)
        if key in tree().sections:
            inner = list(_section_lines(loaded, key, f"{indent}  ", only_changed=only_changed))
            if inner:
                yield f"{indent}{name}:"
                yield from inner
        elif not (only_changed and loaded.origins[key] == DEFAULT):
            written = f"{indent}{name}: {_scalar(loaded.config, key)}"
            yield f"{written:<{_COMMENT_COLUMN}} # {loaded.origins[key]}"


def _scalar(config: Config, key: str) -> str:
    """A value in YAML on one line."""
    value = masked(tree().leaves[key], value_of(config, key))
    if key in UNUSED_KEYS and value is not None:
        value = HIDDEN  # unused, and never looked at: it may hold passwords
    if isinstance(value, Path):
        value = str(value)
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
