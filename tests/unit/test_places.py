"""Who may stay at the door of the metrics, and who goes first."""

from __future__ import annotations

import pytest

from farm.metrics.places import GRACE_S, Places


@pytest.fixture
def places() -> Places[str]:
    return Places(3, unknown_s=2.0, known_s=10.0)


def test_who_is_known_may_stay_for_longer(places: Places[str]) -> None:
    """Prevents: ten seconds for whoever reaches the port, or two for an honest scrape."""
    places.take("silent", "192.0.2.1", 100.0)
    places.take("prometheus", "192.0.2.2", 100.0)
    places.known("prometheus")
    assert places.overdue(101.9) == []
    assert places.overdue(102.0) == ["silent"]
    assert places.overdue(110.0) == ["silent", "prometheus"]


def test_the_oldest_unknown_of_the_address_with_most_goes_first(places: Places[str]) -> None:
    """Prevents: an honest client who is put out for those that say nothing."""
    places.take("honest", "192.0.2.2", 100.0)
    places.take("silent 1", "192.0.2.1", 100.1)
    places.take("silent 2", "192.0.2.1", 100.2)
    assert places.is_full
    assert places.goes_first(100.1 + GRACE_S / 2) is None  # he may just be slow
    assert places.goes_first(101.0) == "silent 1"
    places.going("silent 1")
    assert places.goes_first(101.0) is None  # one for each that waits
    places.leave("silent 1")
    assert not places.is_full
    assert places.goes_first(101.0) == "honest"  # of equals, who has been silent for longest


def test_nobody_who_is_known_goes_for_another(places: Places[str]) -> None:
    """Prevents: scrapes that end each other."""
    for name in ("a", "b", "c"):
        places.take(name, "192.0.2.2", 100.0)
        places.known(name)
    assert places.goes_first(109.0) is None
