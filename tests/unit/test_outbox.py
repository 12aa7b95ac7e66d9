"""Answers until their PUBACK, and what no MQTT broker could take."""

from __future__ import annotations

import pytest

from farm.adapter import Publication, Terminal
from farm.broker.outbox import KEPT_LETTERS, Letter, Outbox, _known_topic_defect, defect
from farm.errors import JournalError


def letter(part_id: str = "1") -> Letter:
    return Letter(1, "box/tool", part_id, Terminal.PUBLISHED, 0.0, 0.0, 0.0)


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
    outbox.add(answer(topic), bad)
    outbox.add(answer("good"), letter())
    assert hand_over(outbox) == ["good"]
    assert outbox.take_set_aside() == [bad]
    assert bad.refusals[0].startswith("not publishable: ")
    assert outbox.take_set_aside() == []


@pytest.mark.parametrize("topic", ["a b", "ä/ö.ü/Результат", "a/b.c[0]", "/".join("a" * 200)])
def test_unusual_topics_that_mqtt_takes_are_sent(topic: str) -> None:
    assert defect(Publication(topic, b""), None) is None


def test_the_check_of_a_very_long_topic_is_not_kept() -> None:
    """An adapter's 20 000 topics of 60 kB, which take a gigabyte for ever."""
    before = _known_topic_defect.cache_info().currsize
    topic = "t" * 60_000
    assert defect(Publication(topic, b""), None) is None
    assert "at most 65535" in (defect(Publication(topic * 2, b""), None) or "")
    assert _known_topic_defect.cache_info().currsize == before


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
    outbox.add((Publication("a", b"x" * 1000),), sent)
    outbox.add((Publication("b", b"x" * 900),), letter())
    assert hand_over(outbox) == ["b"]
    assert outbox.take_set_aside() == [sent]
    assert "the MQTT broker takes 1000" in sent.refusals[0]


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


# ---- on disk -------------------------------------------------------------------------------------


class Disk:
    """Publications by letter, as a journal has them; counts how often it is read."""

    def __init__(self, *, is_there: bool = True) -> None:
        self.is_there = is_there
        self.reads = 0

    def load(self, letter_id: int) -> tuple[Publication, ...]:
        self.reads += 1
        if not self.is_there:
            raise JournalError("the disk is away")
        return answer(f"a{letter_id}", f"b{letter_id}")


def numbered(number: int) -> Letter:
    return Letter(number, "box/tool", str(number), Terminal.PUBLISHED, 0.0, 0.0, 0.0)


def test_while_mqtt_is_away_memory_holds_the_first_letters_alone() -> None:
    # prevents: an outbox that grows until the process is killed, and takes all answers with it
    disk = Disk()
    outbox = Outbox(max_inflight=10, load=disk.load)
    for number in range(KEPT_LETTERS + 50):
        outbox.add(disk.load(number), numbered(number))
    disk.reads = 0
    assert outbox.in_memory == KEPT_LETTERS
    assert len(outbox) == 2 * (KEPT_LETTERS + 50)
    topics: list[str] = []
    while outgoing := hand_over(outbox, len(topics) + 1):
        for mid in range(len(topics) + 1, len(topics) + 1 + len(outgoing)):
            outbox.confirmed(mid, None)
        topics += outgoing
    assert topics == [f"{part}{n}" for n in range(KEPT_LETTERS + 50) for part in "ab"]
    assert disk.reads == 50
    assert len(outbox) == 0


def test_a_letter_of_a_former_life_goes_out_with_the_bytes_of_then() -> None:
    outbox = Outbox(max_inflight=10, load=Disk().load)
    assert not outbox.add_found(numbered(3), 2)
    assert hand_over(outbox) == ["a3", "b3"]


def test_a_letter_without_publications_is_complete_at_once() -> None:
    assert Outbox(max_inflight=1, load=Disk().load).add_found(numbered(3), 0)


def test_a_letter_that_can_not_be_read_now_waits_and_is_not_lost() -> None:
    disk = Disk(is_there=False)
    outbox = Outbox(max_inflight=10, load=disk.load)
    outbox.add_found(numbered(3), 2)
    with pytest.raises(JournalError):
        outbox.next_to_send()
    disk.is_there = True
    assert hand_over(outbox) == ["a3", "b3"]
