"""Answers until their PUBACK, and what no MQTT broker could take."""

from __future__ import annotations

import pytest

from farm.adapter import Publication, Terminal
from farm.broker.outbox import Letter, Outbox, defect


def letter(part_id: str = "1") -> Letter:
    return Letter("box/tool", part_id, Terminal.PUBLISHED, 0.0, 0.0, 0.0)


def answer(*topics: str) -> tuple[Publication, ...]:
    return tuple(Publication(topic, b"x") for topic in topics)


def hand_over(outbox: Outbox, first_mid: int = 1) -> list[str]:
    """Send what may be sent, under ascending message ids; returns the topics."""
    topics = []
    while (publication := outbox.next_to_send()) is not None:
        outbox.sent(first_mid + len(topics))
        topics.append(publication.topic)
    return topics


def test_publications_go_out_in_order_and_few_at_once() -> None:
    outbox = Outbox(max_inflight=2)
    outbox.add(answer("a", "b"), letter())
    outbox.add(answer("c"), letter())
    assert hand_over(outbox) == ["a", "b"]
    assert (len(outbox), outbox.inflight) == (3, 2)
    outbox.confirmed(1, None)
    assert hand_over(outbox, 3) == ["c"]


def test_a_letter_is_done_with_its_last_confirmation_in_whatever_order() -> None:
    outbox, sent = Outbox(max_inflight=9), letter()
    assert not outbox.add(answer("a", "b"), sent)
    hand_over(outbox)
    assert outbox.confirmed(2, None) is None
    assert outbox.confirmed(1, None) is sent
    assert len(outbox) == 0
    assert sent.refusals == []


def test_a_confirmation_that_belongs_to_nothing_is_no_answer() -> None:
    # the status message of the connection is confirmed as well
    outbox = Outbox(max_inflight=9)
    assert outbox.confirmed(17, None) is None
    outbox.add(answer("a"), letter())
    hand_over(outbox)
    outbox.confirmed(1, None)
    assert outbox.confirmed(1, None) is None  # twice


def test_a_refusal_by_the_broker_is_kept_with_its_reason() -> None:
    # "Not authorized" comes as a PUBACK: read as success, the answer is lost without a word
    outbox, sent = Outbox(max_inflight=9), letter()
    outbox.add(answer("a", "b"), sent)
    hand_over(outbox)
    outbox.confirmed(1, "Not authorized")
    assert outbox.confirmed(2, None) is sent
    assert sent.refusals == ["refused by the MQTT broker: Not authorized"]


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "a/+/b",
        "a/#",
        "a\0b",
        "a\tb",
        "a\x7fb",
        "a\x85b",
        "a\ud800",
        "a\ufdd0",
        "a\ufffe",
        "a\U0001ffff",
        "/".join("a" * 202),
        "a" * 65_536,
    ],
)
def test_a_bad_topic_is_set_aside_and_blocks_nobody(topic: str) -> None:
    # mosquitto closes the connection over each of these, again after every reconnect
    outbox, bad = Outbox(max_inflight=9), letter()
    assert outbox.add(answer(topic), bad)
    assert bad.refusals[0].startswith("not publishable: ")
    outbox.add(answer("good"), letter())
    assert hand_over(outbox) == ["good"]


@pytest.mark.parametrize("topic", ["a b", "ä/ö.ü/Результат", "a/b.c[0]", "/".join("a" * 200)])
def test_unusual_topics_that_mqtt_takes_are_sent(topic: str) -> None:
    assert defect(Publication(topic, b""), None) is None


def test_half_of_an_answer_goes_out_when_the_other_half_can_not() -> None:
    outbox, sent = Outbox(max_inflight=9), letter()
    assert not outbox.add(answer("a/#", "good"), sent)
    assert hand_over(outbox) == ["good"]
    assert outbox.confirmed(1, None) is sent
    assert len(sent.refusals) == 1


def test_an_answer_over_the_brokers_packet_size_is_set_aside() -> None:
    outbox = Outbox(max_inflight=9)
    outbox.max_packet_bytes = 1000
    sent = letter()
    assert outbox.add((Publication("a", b"x" * 1000),), sent)
    assert "the MQTT broker takes 1000" in sent.refusals[0]
    assert not outbox.add((Publication("a", b"x" * 900),), letter())


def test_an_answer_of_nothing_is_done_at_once() -> None:
    assert Outbox(max_inflight=9).add((), letter())


def test_a_message_id_given_anew_does_not_lose_the_one_who_had_it() -> None:
    outbox = Outbox(max_inflight=2)
    first, second = letter("1"), letter("2")
    outbox.add(answer("a"), first)
    outbox.add(answer("b"), second)
    outbox.sent(1)
    outbox.sent(1)  # a new client began to count again
    assert outbox.confirmed(1, None) is second
    assert hand_over(outbox, 2) == ["a"]
    assert outbox.confirmed(2, None) is first


def test_the_limit_of_one_connection_does_not_outlive_it() -> None:
    outbox = Outbox(max_inflight=20)
    outbox.limit(1)
    outbox.add(answer(*"abcdefgh"), letter())
    assert len(hand_over(outbox)) == 1
    outbox.limit(65_535)
    assert len(hand_over(outbox, 2)) == 7
