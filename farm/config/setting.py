"""One value given for one key, with where it came from; what the readers hand to `load`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Setting:
    """A value as it was written, before it is checked."""

    key: str  # dotted, known to the tree
    value: Any
    origin: str  # for `farm config show`: "file etc/farm.yaml:12", "environment FARM_WORKERS"
    blame: str  # how a message about it starts: "etc/farm.yaml:12: mqtt.broker.port", "--workers"


@dataclass(slots=True)
class Reading:
    """What a source of settings gave: settings, and problems as finished lines."""

    settings: list[Setting] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
