"""Results for a broker on another machine: kept until it has them, sent again when it has not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm import wire
from farm.worker import unconfirmed
from farm.worker.unconfirmed import RESEND_S, Unconfirmed

if TYPE_CHECKING:
    import pytest


def frame(job_id: int, worker_id: int = 5) -> bytes:
    return wire.encode(
        wire.Result(worker_id, job_id, "ok", [1.5], "", {}, "m", "h", 0.1, 0.2, ticket=9)
    )


def ids(frames: list[bytes]) -> list[int]:
    return [wire.decode([one]).job_id for one in frames]  # type: ignore[union-attr]


def test_what_was_taken_is_forgotten_and_the_rest_sent_again() -> None:
    kept = Unconfirmed()
    kept.sent([frame(1), frame(2)], 0.0)
    kept.sent([frame(3)], 1.0)
    kept.taken([2, 99])
    assert len(kept) == 2
    assert kept.overdue(RESEND_S - 0.1) == []
    assert kept.overdue(RESEND_S) == [frame(1)]
    assert ids(kept.overdue(RESEND_S + 1.0)) == [3]
    assert kept.overdue(RESEND_S + 1.0) == []  # they count as sent just now
    assert ids(kept.overdue(2 * RESEND_S)) == [1]


def test_a_broker_that_came_anew_gets_all_of_it_under_the_new_id() -> None:
    # prevents: a result that is finished, and thrown away since the broker was restarted
    kept = Unconfirmed()
    kept.sent([frame(1), frame(2)], 0.0)
    assert kept.for_newcomer(6, 0.1) == [frame(1, 6), frame(2, 6)]
    kept.taken([1, 2])
    assert kept.for_newcomer(7, 0.2) == []


def test_it_is_bounded_and_counts_what_it_lets_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unconfirmed, "MAX_RESULTS", 3)
    kept = Unconfirmed()
    kept.sent([frame(n) for n in range(5)], 0.0)
    assert (len(kept), kept.let_go) == (3, 2)
    assert ids(kept.for_newcomer(6, 0.0)) == [2, 3, 4]
