"""What a worker claims, and what of it becomes the next batch."""

from __future__ import annotations

import queue

import pytest

from farm import wire
from farm.worker.batches import Batches, Work
from farm.worker.hand import Hand

BATCH = 8  # a worker that gathers holds twice as many


def jobs(*ids: int) -> tuple[wire.Job, ...]:
    return tuple(wire.Job(number, "box/tool", str(number), 1, {}) for number in ids)


@pytest.mark.parametrize(
    ("batch_jobs", "held", "ids", "takes"),
    [
        (0, [], [1], True),
        (0, [], list(range(16)), True),
        (0, [1], [2], False),  # it computes: another one is to have it
        (BATCH, [], [1], True),
        (BATCH, [1], [2], True),
        (BATCH, list(range(12)), [20, 21, 22, 23], True),  # up to the last one
        (BATCH, list(range(13)), [20, 21, 22, 23], False),
        (BATCH, list(range(16)), [20], False),
        (BATCH, [1, 2], [3, 2], False),  # sent again since the claim was late: not computed twice
        (BATCH, [], list(range(20)), True),  # one that is idle takes any message
    ],
)
def test_who_takes_a_message(batch_jobs: int, held: list[int], ids: list[int], takes: bool) -> None:
    """A GPU that is fed by single messages; a job that waits at one worker while others idle."""
    hand = Hand(batch_jobs)
    if held:
        hand.take(held)
    assert hand.takes(ids) is takes


def test_what_was_answered_makes_room_in_the_order_of_the_claims() -> None:
    """Room that is never given back, or that of a job which is still to be computed."""
    hand = Hand(BATCH)
    hand.take([1, 2, 3])
    hand.take([4, 5])
    hand.done(3)
    assert len(hand) == 2
    assert hand.takes([1])
    assert not hand.takes([5])
    hand.done(2)
    assert not hand
    plain = Hand()
    plain.take([1, 2])
    plain.done(2)
    assert not plain


def batches(*works: Work | None, most: int = BATCH) -> list[list[int]]:
    """The batches that come out of these messages, until there is nothing more."""
    inbox: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
    for work in works:
        inbox.put(work)
    taken, found = Batches(inbox), []
    while (batch := taken.next(most)) is not None:
        found.append([job.job_id for job in batch.jobs])
    return found


@pytest.mark.parametrize(
    ("works", "most", "expected"),
    [
        ([None], BATCH, []),
        ([Work(7, jobs(1)), None], BATCH, [[1]]),  # nobody waits for company
        ([Work(7, jobs(1)), Work(7, jobs(2, 3)), None], BATCH, [[1, 2, 3]]),
        ([Work(7, jobs(1)), Work(7, jobs(2)), None], 0, [[1], [2]]),  # without a GPU
        ([Work(7, jobs(1, 2)), Work(7, jobs(3, 4)), None], 3, [[1, 2], [3, 4]]),
        ([Work(7, jobs(*range(7))), None], 3, [[0, 1, 2], [3, 4, 5], [6]]),  # it has no memory
        ([Work(7, jobs(*range(4))), Work(7, jobs(4, 5)), None], 3, [[0, 1, 2], [3, 4, 5]]),
        ([Work(7, jobs(*range(9))), None], 0, [list(range(9))]),
        ([Work(7, jobs(1)), Work(8, jobs(2)), None], BATCH, [[1], [2]]),  # of another incarnation
        (
            [Work(7, jobs(1)), Work(7, jobs(2), is_alone=True), Work(7, jobs(3)), None],
            BATCH,
            [[1], [2], [3]],  # it has cost a worker
        ),
        ([Work(7, jobs(2), is_alone=True), Work(7, jobs(3)), None], BATCH, [[2], [3]]),
    ],
)
def test_a_batch_is_what_lies_there(
    works: list[Work | None], most: int, expected: list[list[int]]
) -> None:
    """A message that is lost between two batches; a GPU without memory for sixteen, which was told
    so (`--batch-jobs`), and gets sixteen all the same; a dangerous hole in the company of others; a
    compute loop that never ends.
    """
    assert batches(*works, most=most) == expected


def test_after_the_end_it_stays_ended() -> None:
    """A compute loop that waits for ever, since the end was read with the last batch."""
    inbox: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
    for work in (Work(7, jobs(1)), None):
        inbox.put(work)
    taken = Batches(inbox)
    assert taken.next(BATCH) is not None
    assert taken.next(BATCH) is None
    assert taken.next(BATCH) is None
