"""What supervisor and nursery say to each other, over a pair of sockets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

BEGIN = b"begin"  # the supervisor knows a newborn worker


@dataclass(frozen=True, slots=True)
class Load:
    """What a nursery is to load, as a Welcome tells it to a worker, and where workers join."""

    KIND: ClassVar[int] = 66
    config: dict[str, Any]
    control_endpoint: str


@dataclass(frozen=True, slots=True)
class NurseryReady:
    """The nursery has loaded and warmed up the model, or can't be forked from: `unfit` says why."""

    KIND: ClassVar[int] = 64
    unfit: str
    model_version: str
    load_s: float


@dataclass(frozen=True, slots=True)
class Fork:
    """Fork a worker of this name. The birth socket, whose other end the supervisor holds, comes
    with it: the worker tells its pid there, in digits, and begins when it hears BEGIN.
    """

    KIND: ClassVar[int] = 65
    name: str
