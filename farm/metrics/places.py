"""The `Places`: who of the clients may stay for how long, and who goes first where there are none.

A decision without I/O. A client is unknown until he has shown a whole request with the right token;
until then he has a moment, and his place goes to who waits. Else whoever reaches the port could
keep Prometheus out with a few connections on which he says nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

GRACE_S: Final = 0.5  # for his request to come and be read, on a busy machine too

Who = TypeVar("Who")


@dataclass(slots=True)
class _Place:
    address: str
    since_s: float
    until_s: float
    is_known: bool = False
    is_going: bool = False


class Places(Generic[Who]):
    """See the module. Times are monotonic seconds.

    Args:
        most: places there are.
        unknown_s: how long an unknown client may stay.
        known_s: how long a client may stay, in all.
    """

    def __init__(self, most: int, *, unknown_s: float, known_s: float) -> None:
        self._most = most
        self._unknown_s = min(unknown_s, known_s)
        self._known_s = known_s
        self._taken: dict[Who, _Place] = {}  # the longest there first

    def __len__(self) -> int:
        return len(self._taken)

    @property
    def is_full(self) -> bool:
        """Whether there is none left."""
        return len(self._taken) >= self._most

    def take(self, who: Who, address: str, now_s: float) -> None:
        """A client came."""
        self._taken[who] = _Place(address, now_s, now_s + self._unknown_s)

    def known(self, who: Who) -> None:
        """He has shown a request, and may have it."""
        if place := self._taken.get(who):
            place.is_known = True
            place.until_s = place.since_s + self._known_s

    def leave(self, who: Who) -> None:
        """He is gone."""
        self._taken.pop(who, None)

    def overdue(self, now_s: float) -> list[Who]:
        """Whose time is up."""
        return [who for who, place in self._taken.items() if now_s >= place.until_s]

    def goes_first(self, now_s: float) -> Who | None:
        """Whose place is for one who waits: of the address with most unknown clients the oldest.

        None: all are known or have just come, or one is going already.
        """
        if any(place.is_going for place in self._taken.values()):
            return None
        unknown = {who: place for who, place in self._taken.items() if not place.is_known}
        of_address = Counter(place.address for place in unknown.values())
        patient = [who for who, place in unknown.items() if now_s - place.since_s >= GRACE_S]
        return max(patient, key=lambda who: of_address[unknown[who].address], default=None)

    def going(self, who: Who) -> bool:
        """He is cut off, and will leave in a moment; False: he is gone already."""
        if place := self._taken.get(who):
            place.is_going = True
        return place is not None

    def is_going(self, who: Who) -> bool:
        """Whether he was cut off."""
        place = self._taken.get(who)
        return place is not None and place.is_going
