"""Every key of the tree by its dotted name: which exist, what kind they are, and the nearest one.

Owns the names only, derived from `farm.config.tree`; values are `farm.config.load`'s business.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr

from farm.config.base import Section
from farm.config.tree import Config

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic.fields import FieldInfo

HIDDEN = "********"  # what is shown of a secret, whatever its length
UNUSED_KEYS = ("mqtt.publisher", "mqtt.analyzer")  # of the former system
_SECRET_NAME = re.compile(r"passw|secret|token|credential|api_?key|private_?key", re.IGNORECASE)
_MAX_LISTED = 16  # more alternatives than this help nobody


@dataclass(frozen=True, slots=True)
class Leaf:
    """A key that holds a value."""

    name: str  # dotted, e.g. "mqtt.broker.port"
    field: FieldInfo
    is_text: bool  # written text is taken literally: 0012 is no number, `on` no boolean
    is_number: bool
    is_mapping: bool
    is_secret: bool

    @property
    def default(self) -> Any:
        """The value where none is given."""
        return self.field.get_default(call_default_factory=True)


@dataclass(frozen=True, slots=True)
class Tree:
    """All names of the configuration, in its order."""

    leaves: Mapping[str, Leaf]
    sections: Mapping[str, type[Section]]  # "" is the root

    def children(self, section: str) -> list[str]:
        """The last parts of the names directly in a section."""
        return list(self.sections[section].model_fields)


@cache
def tree() -> Tree:
    """The names of `Config`, walked once."""
    leaves: dict[str, Leaf] = {}
    sections: dict[str, type[Section]] = {}
    _walk(Config, "", leaves, sections)
    return Tree(leaves, sections)


def join(section: str, name: str) -> str:
    """The dotted name of a key in a section ("" is the root)."""
    return f"{section}.{name}" if section else name


def suggestion(section: str, name: str) -> str:
    """How an unknown key's message ends: the nearest known key, or what there is to choose from."""
    siblings = tree().children(section)
    elsewhere = [key for key in tree().leaves if key.rpartition(".")[2] == name]
    typing_error = difflib.get_close_matches(name, siblings, n=1, cutoff=0.8)
    near = typing_error or difflib.get_close_matches(name, siblings, n=1, cutoff=0.6)
    if len(elsewhere) == 1 and not typing_error:  # the right key in the wrong section
        return f"; did you mean {elsewhere[0]}?"
    if near:
        return f"; did you mean {join(section, near[0])}?"
    if len(siblings) <= _MAX_LISTED:
        return f"; known are {', '.join(siblings)}"
    return ""


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name nearest to `name`, or ""."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)), "")


def masked(leaf: Leaf, value: Any) -> Any:
    """`value` as it may be shown: secrets are hidden, also those inside free settings."""
    if leaf.is_secret:
        return HIDDEN if _revealed(value) else ""
    return _masked_inside(value) if leaf.is_mapping else value


def _revealed(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _masked_inside(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: HIDDEN if _SECRET_NAME.search(str(key)) and inner else _masked_inside(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_masked_inside(inner) for inner in value]
    return value


def _walk(
    section: type[Section], prefix: str, leaves: dict[str, Leaf], sections: dict[str, type[Section]]
) -> None:
    sections[prefix] = section
    for name, field in section.model_fields.items():
        key = join(prefix, name)
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            _walk(kind, key, leaves, sections)
        else:
            leaves[key] = _leaf(key, field)


def _leaf(key: str, field: FieldInfo) -> Leaf:
    kind = field.annotation
    choices = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    is_number = any(choice in (int, float) for choice in choices)
    is_mapping = any(get_origin(choice) is dict for choice in choices)
    is_literal = get_origin(kind) is Literal
    return Leaf(
        name=key,
        field=field,
        is_text=is_literal or not (is_number or is_mapping or kind is bool or kind is Any),
        is_number=is_number,
        is_mapping=is_mapping,
        is_secret=SecretStr in choices,
    )
