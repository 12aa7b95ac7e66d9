"""Hears everything that a farm says and writes it down, over the MQTT broker's restarts.

Owns the consumer's side of a run under chaos; what it means is judged later.
"""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Final

from farm.simulation.listener import AnswerTopics
from farm.simulation.mqtt import BrokerAddress, Delivery, MqttLink, Outage

if TYPE_CHECKING:
    from collections.abc import Callable

DEAD_LETTERS: Final = "farm/+/dead"
ECHO: Final = "farm-chaos/echo"


class Ear:
    """A persistent subscription to the answers, the errors and the dead letters of a farm."""

    def __init__(self, address: BrokerAddress) -> None:
        self.topics = AnswerTopics()
        self._changed = threading.Condition()
        self._heard: list[Delivery] = []
        self._echo = b""
        self._link = MqttLink(
            address,
            name="chaos-ear",
            filters=(*self.topics.filters(), DEAD_LETTERS, ECHO),
            on_delivery=self._take,
        )
        self.holes = 0  # about how many have been answered: repeats count again

    def connect(self) -> None:
        """Subscribe.

        Raises:
            MqttError: the broker can't be reached or refuses us.
        """
        self._link.connect()

    def close(self) -> None:
        """Disconnect; what was heard stays."""
        self._link.close()

    def heard(self) -> list[Delivery]:
        """All of it, in the order it came."""
        with self._changed:
            return list(self._heard)

    def outages(self) -> list[Outage]:
        """When we could hear nothing."""
        return self._link.outages()

    def catch_up(self, publish: Callable[[str, bytes], None], timeout_s: float) -> bool:
        """Wait until all that the broker has for us now is heard: it keeps the order.

        Args:
            publish: sends a message to the same broker.
            timeout_s: for it to come back.
        """
        echo = uuid.uuid4().bytes
        publish(ECHO, echo)
        with self._changed:
            return self._changed.wait_for(lambda: self._echo == echo, timeout_s)

    def _take(self, delivery: Delivery) -> None:
        with self._changed:
            if delivery.topic == ECHO:
                self._echo = delivery.payload
                self._changed.notify_all()
                return
            self._heard.append(delivery)
            self.holes += delivery.topic.endswith(f"/{self.topics.depth}")
