"""In which MQTT version a broker is spoken to, as tables of what came of each connection."""

from __future__ import annotations

import pytest

from farm.broker.mqtt_version import MqttVersion


def after(configured: str, *events: str) -> str:
    version = MqttVersion(configured)
    for event in events:
        match event:
            case "refused: version":
                version.refused(for_its_version=True)
            case "refused: login":
                version.refused(for_its_version=False)
            case _:
                getattr(version, event)()
    return version.name


@pytest.mark.parametrize(
    ("events", "name"),
    [
        ((), "5"),
        (("begin", "failed"), "5"),  # nobody listens there
        (("begin", "reached", "refused: version", "failed"), "3.1.1"),
        (("begin", "reached", "unanswered", "failed"), "3.1.1"),
        (("begin", "reached", "refused: login", "failed"), "5"),
        (("begin", "reached", "failed"), "5"),  # it may just have died
        (("begin", "reached", "failed") * 2, "3.1.1"),
        (("begin", "reached", "failed") * 4, "5"),  # in turns
        (("begin", "reached", "accepted", *("failed", "begin", "reached") * 3, "failed"), "5"),
    ],
)
def test_another_version_is_tried_only_where_this_one_was_not_accepted(events, name):
    """A farm that speaks 3.1.1 for the rest of its life, since a broker died at a bad moment; or
    one that never gets in.
    """
    assert after("auto", *events) == name


@pytest.mark.parametrize("configured", ["5", "3.1.1"])
def test_a_configured_version_stays(configured):
    """A setting that is not followed."""
    refused = ("begin", "reached", "refused: version", "failed")
    assert after(configured, *refused * 3) == configured
