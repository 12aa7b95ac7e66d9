"""What has become of a farm while one looks at it."""

from __future__ import annotations

from typing import Any

from farm.telemetry.lines import text_of
from farm.telemetry.session import TOLD_FOR_S, Session


def shot(up_s: float) -> dict[str, Any]:
    return {"up_s": up_s}


def notices(session: Session, now_s: float) -> str:
    return " ".join(text_of(each) for each in session.notices(now_s, period_s=1.0))


def test_a_farm_that_answers_needs_no_notice() -> None:
    session = Session()
    for now_s in (0.0, 1.0, 2.0):
        session.took(shot(100.0 + now_s), now_s)
        assert notices(session, now_s) == ""
        assert not session.is_silent


def test_silence_is_told_with_its_beginning_and_ends_by_itself() -> None:
    """A dead picture that looks like a quiet farm."""
    session = Session()
    session.took(shot(100.0), 0.0)
    session.missed(3.0, 1_700_000_000.0)
    session.missed(6.0, 1_700_000_003.0)
    assert session.is_silent
    assert "NO FARM ANSWERS" in notices(session, 8.0)
    assert "(5 s)" in notices(session, 8.0)
    assert session.shot == shot(100.0)
    session.took(shot(110.0), 10.0)
    assert notices(session, 10.0) == ""


def test_another_broker_process_is_told_for_a_while() -> None:
    """Counts that fall to 0, and nobody says why."""
    session = Session()
    session.took(shot(100.0), 0.0)
    session.took(shot(2.0), 5.0)
    assert "was started anew 1 s ago" in notices(session, 6.0)
    assert notices(session, 5.0 + TOLD_FOR_S) == ""


def test_of_several_farms_each_may_be_another() -> None:
    session = Session()

    def both(first: float | None, second: float) -> dict[str, Any]:
        one = None if first is None else shot(first)
        return {"farms": [{"state_dir": "/a", "snapshot": one},
                          {"state_dir": "/b", "snapshot": shot(second)}]}  # fmt: skip

    session.took(both(100.0, 100.0), 0.0)
    session.took(both(None, 101.0), 1.0)
    assert notices(session, 1.0) == ""
    session.took(both(1.0, 105.0), 5.0)
    assert "was started anew" in notices(session, 5.0)
