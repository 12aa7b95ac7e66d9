"""The page of every key, made from the typed tree: what it is, its default, bounds and variable.

Owns the wording of bounds and defaults. docs/configuration.md is what `page` gives, held equal by a
test: `farm config reference > docs/configuration.md` renews it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import yaml

from farm.config.environment import ALIASES, LEGACY, variable
from farm.config.keys import UNUSED_KEYS, Leaf, join, tree
from farm.config.reload import is_reloadable

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = """\
# Configuration

Every key, made from the code by `farm config reference`. [etc/farm.yaml](../etc/farm.yaml) has the
same keys to copy; `farm config show` tells what is in force and where each value came from.

The strongest wins: command line, environment, file, default. In the environment a key is `FARM_`,
its name in capitals, and two underscores between levels: `mqtt.broker.port` is
`FARM_MQTT__BROKER__PORT`. A key without a value keeps its default; an unknown key is refused, with
the nearest known one. Keys that end in `_s` are seconds, in `_bytes` bytes.

↻ stands beside what `farm reload` takes over while the farm runs; the rest needs a restart.
"""
# The names of the values that pydantic's marks have.
_BOUNDS = {
    "ge": "≥ {}",
    "gt": "> {}",
    "le": "≤ {}",
    "lt": "< {}",
    "max_length": "at most {} characters",
}
_UNUSED = "Of the former system; accepted and unused."


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join([_HEAD, *_section(""), *_variables()]) + "\n"


def _section(section: str) -> Iterator[str]:
    keys = [join(section, name) for name in tree().children(section)]
    leaves = [tree().leaves[key] for key in keys if key in tree().leaves]
    yield f"## `{section}`" if section else "## At the top"
    yield ""
    yield _sentence(section)
    if leaves:
        yield ""
        yield "| key | default | allowed | |"
        yield "|---|---|---|---|"
        yield from map(_row, leaves)
    yield ""
    for key in keys:
        if key in tree().sections:
            yield from _section(key)


def _sentence(section: str) -> str:
    return " ".join((tree().sections[section].__doc__ or "").split())


def _row(leaf: Leaf) -> str:
    told = _UNUSED if leaf.name in UNUSED_KEYS else " ".join((leaf.field.description or "").split())
    name = leaf.name.rpartition(".")[2]
    mark = " ↻" if is_reloadable(leaf.name) else ""
    cells = (f"`{name}`{mark}", _default(leaf), _allowed(leaf), told)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(leaf: Leaf) -> str:
    value = leaf.default
    if leaf.is_secret or value == "":
        return "empty"
    if value is None:
        return "none"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"`{_number(value)}`"
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return f"`{text.removesuffix(chr(10)).removesuffix(chr(10) + '...')}`"


def _allowed(leaf: Leaf) -> str:
    choices = _choices(leaf.field.annotation)
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    if leaf.field.annotation is bool:
        return "`true`, `false`"
    found = list(filter(None, map(_bound, leaf.field.metadata)))
    return " and ".join(found) or ("a number" if leaf.is_number else "")


def _choices(kind: Any) -> list[Any]:
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [choice for each in get_args(kind) for choice in _choices(each)]


def _bound(mark: Any) -> str:
    """What one of pydantic's marks on a field allows; "" for those that are no bound."""
    for name, told in _BOUNDS.items():
        if (value := getattr(mark, name, None)) is not None:
            return told.format(_number(value))
    return ""


def _number(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"{value:_}" if isinstance(value, int) and value >= 10_000 else f"{value}"


def _variables() -> Iterator[str]:
    yield "## Environment variables with names of their own"
    yield ""
    yield "| variable | key | |"
    yield "|---|---|---|"
    yield "| `FARM_CONFIG` | | the configuration file, where `--config` names none |"
    for name, key in ALIASES.items():
        yield f"| `{name}` | `{key}` | short for `{variable(key)}`, which wins over it |"
    for name, key in LEGACY.items():
        yield f"| `{name}` | `{key}` | of the former system; every `FARM_` name wins over it |"
    yield "| `FARM_INVITE` | | the invite of `farm worker` |"
    yield "| `FARM_VENV` | | where bin/farm keeps its environment; else `.venv` |"
    yield "| `FARM_PYTHON` | | the Python that it is made with |"
