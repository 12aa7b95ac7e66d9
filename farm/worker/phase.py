"""Where a worker stands with its broker, and which steps it may take from there."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """Where the worker stands with its broker."""

    JOINING = "joining"  # says Hello until somebody answers
    LOADING = "loading"  # welcomed; the compute loop loads the model
    WORKING = "working"
    DRAINING = "draining"
    LEFT = "left"


LEGAL: dict[Phase, frozenset[Phase]] = {
    Phase.JOINING: frozenset({Phase.LOADING, Phase.WORKING, Phase.DRAINING, Phase.LEFT}),
    Phase.LOADING: frozenset({Phase.WORKING, Phase.JOINING, Phase.DRAINING, Phase.LEFT}),
    Phase.WORKING: frozenset({Phase.JOINING, Phase.DRAINING, Phase.LEFT}),
    Phase.DRAINING: frozenset({Phase.LEFT}),
    Phase.LEFT: frozenset(),
}
