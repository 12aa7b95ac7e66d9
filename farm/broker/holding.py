"""How many messages the workers with a GPU may be sent, and how patient one is with them.

Decisions without I/O. PUSH deals blindly, so nobody can be given more than others: a worker with a
GPU gets more because it *claims* more. Each message that it has room for is a credit, as an idle
worker without a GPU is one; what lands on a busy one of these bounces, and is dealt again.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Final

from farm.held import BATCHES_HELD, most_held
from farm.slot import MAX_JOBS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from farm.broker.roster import Worker
    from farm.wire import Hello

WEIGHT: Final = 0.04  # of a new measurement: about the last fifty jobs count

LEAST_HELD: Final = BATCHES_HELD * MAX_JOBS
"""It holds so many whatever they take: by how long small batches take, larger ones are found out to
be cheap."""

PATIENT_JOBS: Final = 16
"""Of a large batch only every sixteenth job counts for the deadline (and at least a message of
them): a GPU computes them together, and must not be let hang for the time of 256 single ones."""


def batch_jobs(hello: Hello, *, most: int) -> int:
    """The most that one batch of a new worker may have; 0: it has no GPU, and gathers nothing.

    Args:
        hello: of the worker.
        most: that the configuration allows.
    """
    if not hello.device:
        return 0
    return min(hello.batch_jobs, most) if hello.batch_jobs > 0 else most


def first_batch(worker: Worker, *, is_alone: Callable[[int], bool]) -> frozenset[int]:
    """The jobs that a worker computes, so far as can be told from its claims: it keeps their order.

    Args:
        worker: one that gathers.
        is_alone: whether a job is never gathered with others.
    """
    found: list[int] = []
    for job_id in islice(worker.held, worker.batch_jobs):
        if is_alone(job_id):  # the batch before it ends here; or it is the batch
            return frozenset(found or (job_id,))
        found.append(job_id)
    return frozenset(found)


def measured(worker: Worker, seconds: float) -> None:
    """A worker took so long over one job, read and computed, as its share of a batch."""
    before_s = worker.service_s
    worker.service_s = seconds if before_s is None else before_s + WEIGHT * (seconds - before_s)


def most_jobs(worker: Worker, *, objective_s: float) -> int:
    """How many jobs a worker that gathers should hold at most: what it computes in the objective.

    That is two calls, this and the next. What it holds can't go to another one, and the first of
    the next batch waits for all of the batch before. A job's share of a call is the less the more
    there are, so from call to call it holds more, until two take the objective.

    Args:
        worker: one that gathers.
        objective_s: within which holes should be answered.
    """
    most = most_held(worker.batch_jobs)
    if worker.service_s is None:  # nothing is known of it yet
        return min(most, LEAST_HELD)
    in_time = objective_s / max(worker.service_s, 1e-9)
    # in full messages: rounded down two of them would remain two, whatever is found out
    in_time = MAX_JOBS * math.ceil(min(in_time, most) / MAX_JOBS)
    return min(most, max(in_time, LEAST_HELD))


def room(
    workers: Iterable[Worker],
    *,
    message_jobs: int,
    full_jobs: int,
    message_bytes: int,
    objective_s: float,
) -> int:
    """How many messages the workers that gather can take now, all together.

    Args:
        workers: those that gather.
        message_jobs: of one message, as they are now.
        full_jobs: the most of one message. No more of them are on the wire than a worker could
            take of full ones: what lies there is not claimed yet, and small ones are many.
        message_bytes: the most of one message, of payloads.
        objective_s: within which holes should be answered.
    """
    messages = 0
    for worker in workers:
        most = most_jobs(worker, objective_s=objective_s)
        by_jobs = (most - len(worker.held)) // message_jobs
        by_bytes = most // full_jobs - worker.held_bytes // message_bytes
        # an idle one takes any message
        messages += max(min(by_jobs, by_bytes), 0 if worker.held else 1)
    return messages


def call_limits_s(
    workers: Iterable[Worker], *, call_timeout_s: float, job_timeout_s: float
) -> dict[int, float]:
    """How long those that gather may be at one batch, by worker id.

    What they hold they compute in order. So this covers whatever waits behind the batch, too, be it
    in one more or, of jobs that are never gathered, in a hundred.

    Args:
        workers: any.
        call_timeout_s: as their calls before this one say.
        job_timeout_s: that the configuration allows one job.
    """
    return {
        worker.worker_id: min(call_timeout_s, worker.batch * job_timeout_s)
        for worker in workers
        if worker.batch_jobs
    }


def patience(jobs: int) -> int:
    """For how many single jobs a worker that holds so many is waited for at most."""
    return min(jobs, max(MAX_JOBS, jobs // PATIENT_JOBS))
