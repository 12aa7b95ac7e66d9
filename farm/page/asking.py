"""The `Asker`: asks the broker, and never more often than it should.

One connection for all browsers. Runs in one thread, since a ZeroMQ socket must.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import zmq

from farm import wire
from farm.control import ControlClient
from farm.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT_S: Final = 0.8
STORY_EVERY_S: Final = 0.5  # open holes are few to be looked at, and none is worth more


class Asker:
    """See the module.

    Args:
        endpoint: of the broker's control socket.
        monotonic: tells seconds.

    Attributes:
        problem: why the last answer could not be understood; "" where it could, or none came.
    """

    def __init__(self, endpoint: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._client = ControlClient(self._context, endpoint, timeout_s=TIMEOUT_S)
        self._monotonic = monotonic
        self._next_story_s = 0.0
        self.problem = ""

    def snapshot(self) -> dict[str, Any] | None:
        """What `farm stats` shows; None where nobody answers."""
        reply = self._ask(wire.StatsRequest())
        return reply.snapshot if isinstance(reply, wire.StatsReply) else None

    def story(self, source: str, part_id: str, hole: str) -> list[Any] | None:
        """What has happened to an open hole; None where nobody says, or was just asked."""
        now_s = self._monotonic()
        if now_s < self._next_story_s:
            return None
        self._next_story_s = now_s + STORY_EVERY_S
        reply = self._ask(wire.StoryRequest(source, part_id))
        found = reply.stories.get(hole) if isinstance(reply, wire.StoryReply) else None
        return found if isinstance(found, list) else None

    def close(self) -> None:
        """Give the socket back."""
        self._context.destroy(linger=0)

    def _ask(self, request: wire.Message) -> wire.Message | None:
        client = self._client
        self.problem = ""
        client.send(request)
        try:
            if client.socket.poll(int(TIMEOUT_S * 1000)) and (reply := client.receive()):
                return reply
        except WireError as error:
            self.problem = (
                f"a farm answers that can't be understood ({error}): use a page of its version"
            )
        client.reset()
        return None
