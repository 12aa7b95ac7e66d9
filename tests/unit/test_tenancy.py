"""Who shares our MQTT client id: a table of connections and of the marks found."""

from __future__ import annotations

import pytest

from farm.broker.tenancy import MEETING_WINDOW_S, Tenancy

BEFORE = b"the farm before us"
RIVAL = b"another"
OWN = b""  # stands for our own mark


@pytest.mark.parametrize(
    ("found", "verdicts"),
    [
        # the farm before us left its mark: every restart would be an eviction
        ([RIVAL], [False]),
        # a reconnect after an outage
        ([RIVAL, OWN, OWN], [False, False, False]),
        # an MQTT broker that came back once from an old save
        ([OWN, RIVAL, OWN], [False, False, False]),
        # a rival that takes over each time
        ([OWN, RIVAL, RIVAL], [False, False, True]),
        ([BEFORE, RIVAL, RIVAL], [False, False, True]),
        # the rival was there first: it is the one to see that and to end
        ([RIVAL, RIVAL, RIVAL], [False, False, False]),
        # an MQTT broker that crashes again and again and restores the same old save
        ([BEFORE, BEFORE, BEFORE, OWN], [False, False, False, False]),
    ],
)
def test_a_rival_is_one_that_was_met_twice(found: list[bytes], verdicts: list[bool]) -> None:
    tenancy = Tenancy("farm-1")
    for number, (mark, verdict) in enumerate(zip(found, verdicts, strict=True)):
        tenancy.connected()
        assert tenancy.has_rival(mark or tenancy.mark, float(number)) is verdict


def test_meetings_far_apart_are_no_proof() -> None:
    # prevents: a farm that ends itself after the second outage of mosquitto in a month
    tenancy = Tenancy("farm-1")
    tenancy.connected()
    tenancy.connected()
    assert not tenancy.has_rival(RIVAL, 0.0)
    tenancy.connected()
    assert not tenancy.has_rival(RIVAL, MEETING_WINDOW_S + 1)


def test_the_topic_is_safe_whatever_the_client_id() -> None:
    # prevents: a wildcard or a NUL of a client id in a topic, which wedges the connection
    topics = {Tenancy(name).topic for name in ("farm-1", "a/+/#", "x\0y")}
    assert len(topics) == 3
    assert all(set(topic) <= set("farmclient/0123456789abcdef") for topic in topics)
