"""What travels for every hole: jobs to a worker, and how they ended.

What comes for every hole is a named tuple, which is made in a third of the time of a frozen
dataclass; a tuple has no room for its kind, which stands in `farm.wire.layout`.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

if typing.TYPE_CHECKING:
    from collections.abc import Mapping

JOBS_KIND = 1


class Job(NamedTuple):
    """One join to compute: raw parts by kind, exactly as they came over MQTT."""

    job_id: int
    source: str
    part_id: str
    attempt: int
    parts: Mapping[str, bytes]
    ticket: int = 0  # proves that its worker was sent it, see `farm.doors.tickets`


class Jobs(NamedTuple):
    """Work for one worker; more than one job when there is a backlog.

    `alone`: the job has cost a worker, and must be computed by itself, without others that the same
    worker may have gathered.
    """

    jobs: tuple[Job, ...]
    alone: bool = False


_NO_TICKETS: list[int] = []  # nobody appends to a message


class Claim(NamedTuple):
    """An idle worker took these jobs and computes them now; a ticket for each of them."""

    worker_id: int
    job_ids: list[int]
    tickets: list[int] = _NO_TICKETS


class Bounce(NamedTuple):
    """A busy or draining worker sends these jobs back, by id and ticket alone."""

    worker_id: int
    job_ids: list[int]
    tickets: list[int] = _NO_TICKETS


class Result(NamedTuple):
    """How one job ended. `status` is a value of `farm.adapter.Status`."""

    worker_id: int
    job_id: int
    status: str
    value: Any
    reason: str
    provenance: dict[str, Any]
    model_version: str
    model_hash: str
    read_s: float
    infer_s: float
    demand: float = 0.0  # of a core, by its batch while it was not kept from one; 0: not known
    ticket: int = 0


@dataclass(frozen=True, slots=True)
class Bye:
    """The worker has finished what it claimed and leaves on purpose."""

    KIND: ClassVar[int] = 5
    worker_id: int
    reason: str
