"""How many jobs a worker that gathers messages holds, in which broker and worker must agree.

What the broker sends within this number the worker claims: else a message could bounce for ever.
"""

from __future__ import annotations

from typing import Final

BATCHES_HELD: Final = 2  # the one that it computes, and the next


def most_held(batch_jobs: int) -> int:
    """How many jobs a worker holds at most that gathers batches of so many."""
    return BATCHES_HELD * batch_jobs
