"""The `Doorkeeper`: says to each handshake whether this key may come in (RFC 27 ZAP).

A decision without I/O of its own, but for looking at the keyring. libzmq asks it on a socket inside
the process, before a stranger can send a single message; who comes in is known by the name of its
key from then on, with every message.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from zmq.utils import z85

from farm import log
from farm.errors import StateError
from farm.sockets import ZAP_DOMAIN

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence

    from farm.doors.keyring import Keyring

ZAP_ENDPOINT: Final = "inproc://zeromq.zap.01"  # given by the RFC
_VERSION: Final = b"1.0"
_FRAMES: Final = 7  # version, request id, domain, address, identity, mechanism, the client's key
_KEY_BYTES: Final = 32
# A file system's times have ticks: of two changes within one, the second would not be seen.
_SETTLED_NS: Final = 1_000_000_000


class Doorkeeper:
    """See the module.

    Args:
        keyring: whose workers may come in.
        counts: raised here: admitted, turned_away, kept_out.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        keyring: Keyring,
        counts: Counter[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._kept_out: dict[str, float] = {}  # until when, by name
        self._keyring = keyring
        self._counts = counts
        self._limited = log.Limited()
        self._names: dict[str, str] = {}  # by public key
        self._seen_ns = -1
        self.look()

    def look(self) -> list[str]:
        """Read the keyring again if it has changed; returns the names that are out of it now.

        Then every connection must be closed: those that may come in again do so by themselves.
        """
        changed_ns = self._keyring.changed_ns()
        if changed_ns == self._seen_ns:
            return []
        try:
            keys, damaged = self._keyring.read()
        except StateError as error:  # no descriptors, no rights: nobody is revoked by that
            self._limited.warning("keyring_unreadable", reason=str(error), next="trying again")
            return []
        names = {key.public: key.name for key in keys}
        for name, fault in damaged.items():
            self._limited.warning("key_unusable", name=name, reason=str(fault))
            if isinstance(fault.__cause__, OSError):  # it can't be read now, and was good before
                names |= {public: n for public, n in self._names.items() if n == name}
        is_settled = time.time_ns() - changed_ns > _SETTLED_NS and not damaged
        self._seen_ns = changed_ns if is_settled else -1
        gone = sorted(name for public, name in self._names.items() if names.get(public) != name)
        self._names = names
        if gone:
            log.get().info("keys_revoked", names=gone)
        return gone

    def keep_out(self, name: str, seconds: float) -> None:
        """Let a key in no more for so long. Then every connection must be closed, too."""
        now_s = self._clock()
        self._kept_out = {n: until_s for n, until_s in self._kept_out.items() if until_s > now_s}
        self._kept_out[name] = now_s + seconds
        self._counts["kept_out"] += 1

    def answer(self, request: Sequence[bytes]) -> list[bytes]:
        """The reply to a ZAP request: 200 and the key's name, or 400."""
        if len(request) < _FRAMES or request[0] != _VERSION:
            return self._reply(request, "")
        _, _, domain, address, _, mechanism, key, *more = request
        name = ""
        if mechanism == b"CURVE" and domain == ZAP_DOMAIN and len(key) == _KEY_BYTES and not more:
            name = self._names.get(z85.encode(key).decode("ascii"), "")
        cause = "its key is not on the keyring: never made here, or revoked"
        if self._kept_out and self._kept_out.get(name, 0.0) > self._clock():
            name, cause = "", f"its key, {name}, is kept out for a while (attach.keep_out_s)"
        if name:
            self._counts["admitted"] += 1
        else:
            self._counts["turned_away"] += 1
            self._limited.warning(
                "stranger_turned_away",
                address=address.decode("ascii", "replace"),
                cause=cause,
            )
        return self._reply(request, name)

    def _reply(self, request: Sequence[bytes], name: str) -> list[bytes]:
        number = request[1] if len(request) > 1 else b""
        status, text = (b"200", b"") if name else (b"400", b"this key may not come in")
        return [_VERSION, number, status, text, name.encode("ascii"), b""]
