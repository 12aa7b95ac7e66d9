"""What a worker says to the broker on the control socket, and the replies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Hello:
    """A worker asks to join the farm."""

    KIND: ClassVar[int] = 16
    name: str
    host: str
    pid: int
    device: str = ""  # the GPU that it computes on, as people call it; "": none
    batch_jobs: int = 0  # the most that one batch of it may have; 0: what the farm says


@dataclass(frozen=True, slots=True)
class Welcome:
    """The broker takes the worker in and tells it everything else."""

    KIND: ClassVar[int] = 17
    worker_id: int
    jobs_endpoint: str
    results_endpoint: str
    config: dict[str, Any]
    config_hash: str
    slot: str  # path of the black-box slot of this incarnation; "" for a worker of another host
    golden: dict[str, Any]  # parts by kind of a hole that was answered here; {}: none yet
    package: dict[
        str, Any
    ]  # the model's files, for a worker of another host: see `farm.broker.library`
    batch_jobs: int = 0  # of one batch that it gathers from several messages; 0: it gathers none


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker can't do what was asked; `reason` names cause and cure."""

    KIND: ClassVar[int] = 18
    reason: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded and warmed up, and the worker is connected for jobs."""

    KIND: ClassVar[int] = 19
    worker_id: int
    model_version: str
    model_hash: str
    load_s: float
    golden: dict[str, Any]  # status, value and reason of the golden hole; {}: none was given


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The worker lives; what it computes is known from its claims."""

    KIND: ClassVar[int] = 20
    worker_id: int
    state: str
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class Orders:
    """The reply to Ready and Heartbeat. Not known: say Hello again.

    `taken`: jobs of which this worker's results have come since the last such reply; told to those
    that came through a door, where a message may be lost on the way. `leave`: finish and leave, for
    this reason; `anew`: and come back as a new process. `log_level`: log at this one; "": at the
    configured one.
    """

    KIND: ClassVar[int] = 21
    known: bool
    taken: list[int] = field(default_factory=list)
    leave: str = ""
    anew: bool = False
    log_level: str = ""


@dataclass(frozen=True, slots=True)
class Fetch:
    """A worker of another host asks for a piece of a file of the model's package."""

    KIND: ClassVar[int] = 22
    name: str
    offset: int


@dataclass(frozen=True, slots=True)
class Piece:
    """So much of it, from there on; nothing: that was the end."""

    KIND: ClassVar[int] = 23
    payload: bytes
