"""The `MqttVersion`: in which version an MQTT broker is spoken to, found out where none is set.

A decision without I/O: it is told what came of each connection. MQTT 5 is tried first, 3.1.1 where
the broker was reached and did not accept that, and so on in turns until one is accepted.
"""

from __future__ import annotations

CUTS_THAT_REFUSE = 2


class MqttVersion:
    """See the module.

    Args:
        configured: "5", "3.1.1", or "auto".
    """

    def __init__(self, configured: str) -> None:
        self.name = "3.1.1" if configured == "3.1.1" else "5"
        self._is_settled = configured != "auto"  # it needs no guess any more
        self._is_reached = False  # TCP is open, and the broker has not let us in
        self._is_answered = False  # it said, or showed by silence, that it won't with this version
        self._cuts = 0  # connections in a row that it closed without an answer

    @property
    def is_5(self) -> bool:
        """Whether it is MQTT 5."""
        return self.name == "5"

    def begin(self) -> None:
        """A connection is tried."""
        self._is_reached = False
        self._is_answered = False

    def reached(self) -> None:
        """TCP is open."""
        self._is_reached = True

    def accepted(self) -> None:
        """The broker speaks this version: it stays."""
        self._is_settled = True

    def refused(self, *, for_its_version: bool) -> None:
        """The broker said no; any other reason says nothing of the version."""
        self._is_reached = self._is_answered = for_its_version

    def unanswered(self) -> None:
        """The broker was silent: some of MQTT 3.1.1 are, when they are asked for MQTT 5."""
        self._is_answered = True

    def failed(self) -> None:
        """The connection is over; take the other version when this one was not accepted.

        A connection that is cut once may be a broker that just died: a farm that settles on 3.1.1
        for that would miss a receive maximum for the rest of its life.
        """
        if not self._is_reached or self._is_settled:
            return
        self._cuts += 1
        if self._is_answered or self._cuts >= CUTS_THAT_REFUSE:
            self.name = "3.1.1" if self.is_5 else "5"
            self._cuts = 0
