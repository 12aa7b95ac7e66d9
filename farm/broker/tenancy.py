"""The `Tenancy`: finds out whether another client lives under our MQTT client id.

MQTT 5 has a reason code for it (0x8E), but mosquitto 2.0 closes the connection of the one that it
evicts without a word, and 3.1.1 has none: two farms would evict each other for ever, each taking
every second message. So each connection leaves a retained mark under the client id. Who comes back
and finds a newcomer's mark has a rival; the newcomer stays. A decision without I/O.
"""

from __future__ import annotations

import hashlib
import secrets

# Once may be an MQTT broker that came back from an old save; twice in this time is proof. Farms
# that evict each other meet every few seconds.
MEETING_WINDOW_S = 300.0


class Tenancy:
    """One per process. Times are monotonic seconds."""

    def __init__(self, client_id: str) -> None:
        # hashed, since a client id may hold what a topic may not
        self.topic = f"farm/client/{hashlib.sha256(client_id.encode()).hexdigest()[:16]}"
        self.mark = secrets.token_hex(8).encode()
        self._connections = 0
        self._predecessor: bytes | None = None  # whom we found there at first
        self._met_s: float | None = None

    def connected(self) -> None:
        """A connection stands; subscribe to `topic`, then leave `mark` there, retained."""
        self._connections += 1

    def has_rival(self, found: bytes, now_s: float) -> bool:
        """A retained mark was found. True: give it back its place, and end."""
        if self._connections < 2:
            self._predecessor = found
        # the farm before us comes back only in an old save, however often that is restored
        if found in (self.mark, self._predecessor):
            return False
        met_s, self._met_s = self._met_s, now_s
        return met_s is not None and now_s - met_s <= MEETING_WINDOW_S
