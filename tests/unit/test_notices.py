"""What watchers of a site are told about dead letters. Times are monotonic seconds."""

from __future__ import annotations

import json

from farm.adapter import Finished, Status, Terminal
from farm.broker.notices import TELL_COUNT_EVERY_S, DeadLetterNotices
from farm.clock import WallClock
from farm.journal.ids import first_id


def notices(*, is_publishing: bool = True) -> DeadLetterNotices:
    clock = WallClock(lambda: 1000.0, lambda: 0.0)
    return DeadLetterNotices("site", clock, is_publishing=is_publishing)


def failed(source: str = "box/tool") -> Finished:
    return Finished(source, "7", Status.FAILED, None, "three workers died", {}, "", "")


def test_each_is_told_with_its_reason_and_what_to_do() -> None:
    [publication] = notices().of(first_id(81) + 42, failed(), Terminal.DEAD, 5.0)
    assert publication.topic == "farm/site/dead"
    body = json.loads(publication.payload)
    assert body["cure"] == "farm why box/tool 7; farm dead retry 81-42"
    assert (body["hole"], body["reason"]) == ("81-42", "three workers died")
    assert (body["terminal"], body["at_s"]) == ("dead", 1005.0)


def test_a_name_that_is_no_utf_8_does_not_stop_the_broker() -> None:
    [publication] = notices().of(1, failed("box/\ud800"), Terminal.DEAD, 5.0)
    json.loads(publication.payload)


def test_their_number_is_told_when_it_changes_and_not_too_often() -> None:
    # prevents: a burst of dead letters that doubles the traffic
    made = notices()
    first = made.news(0.0)
    assert first is not None
    assert (first.topic, first.payload, first.retain) == ("farm/site/dead/count", b"0", True)
    made.one_more()
    assert made.news(TELL_COUNT_EVERY_S / 2) is None
    made.one_more()
    second = made.news(TELL_COUNT_EVERY_S)
    assert second is not None
    assert second.payload == b"2"
    assert made.news(9 * TELL_COUNT_EVERY_S) is None


def test_switched_off_they_say_nothing() -> None:
    made = notices(is_publishing=False)
    assert made.of(1, failed(), Terminal.DEAD, 0.0) == ()
    assert made.news(0.0) is None
