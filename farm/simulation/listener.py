"""Hears a farm's answers and remembers when each came.

Owns the consumer's side of a demo, a bench or a test. Counts by the messages alone; whether the
depths are right is not its business.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from farm.simulation.gateway import ROOT
from farm.simulation.mqtt import BrokerAddress, MqttLink

if TYPE_CHECKING:
    from farm.simulation.units import HoleKey

_ESTIMATE = "ResultManagement.Results.0.ResultContent.DepthEstimation"


@dataclass(frozen=True, slots=True)
class AnswerTopics:
    """Where a farm answers, after `<root>/<toolbox>/<tool>/`."""

    root: str = ROOT
    keypoints: str = f"{_ESTIMATE}.KeyPoints"
    depth: str = f"{_ESTIMATE}.DepthEstimation"
    errors: str = f"{_ESTIMATE}.Errors"

    def filters(self) -> tuple[str, ...]:
        """The MQTT topic filters of all of them."""
        return tuple(
            f"{self.root}/+/+/{tail}" for tail in (self.keypoints, self.depth, self.errors)
        )


@dataclass(frozen=True, slots=True)
class HoleAnswer:
    """What came for one hole: when first (monotonic), how often, and whether it is an error."""

    keypoints_s: float | None = None
    depth_s: float | None = None
    keypoints_count: int = 0
    depth_count: int = 0
    is_error: bool = False
    reason: str = ""

    @property
    def complete(self) -> bool:
        """Both messages are there."""
        return self.keypoints_s is not None and self.depth_s is not None

    @property
    def repeated(self) -> bool:
        """One of them came more than once."""
        return self.keypoints_count > 1 or self.depth_count > 1


@dataclass(frozen=True, slots=True)
class Heard:
    """One message as received."""

    topic: str
    payload: bytes


class AnswerListener:
    """Subscribes to the answers and records them by hole. Methods may be called from any thread.

    Attributes:
        topics: where it listens.
    """

    def __init__(self, address: BrokerAddress, topics: AnswerTopics | None = None) -> None:
        self.topics = topics or AnswerTopics()
        self._link = MqttLink(
            address,
            name="farm-listener",
            filters=self.topics.filters(),
            on_message=self.record,
        )
        self._changed = threading.Condition()
        self._answers: dict[HoleKey, HoleAnswer] = {}
        self._complete = 0
        self._unattributed = 0
        self._unreadable = 0
        self._example: dict[str, Heard] = {}

    def connect(self) -> None:
        """Connect and subscribe; returns once the broker has confirmed it.

        Raises:
            MqttError: the broker can't be reached or refuses us.
        """
        self._link.connect()

    def close(self) -> None:
        """Disconnect; what was heard stays."""
        self._link.close()

    def record(self, topic: str, payload: bytes) -> None:
        """Take in one message. Called by the connection; never raises on odd payloads."""
        now_s = time.monotonic()
        tail = topic.rsplit("/", 1)[-1]
        source = "/".join(topic.removeprefix(f"{self.topics.root}/").split("/")[:2])
        body = _body(payload)
        with self._changed:
            if body is None:
                self._unreadable += 1
            elif tail == self.topics.errors:
                self._unattributed += 1
            else:
                self._take((source, str(body.get("ResultId"))), tail, body, now_s)
                if not body.get("Error") or not self._example:
                    self._example[tail] = Heard(topic, payload)
            self._changed.notify_all()

    def wait_for(self, holes: int, timeout_s: float) -> bool:
        """Wait until so many holes have both messages; False when they have not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._complete >= holes, timeout_s)

    def answers(self) -> dict[HoleKey, HoleAnswer]:
        """What came so far, by hole."""
        with self._changed:
            return dict(self._answers)

    @property
    def complete(self) -> int:
        """Holes of which both messages came."""
        return self._complete

    @property
    def unattributed(self) -> int:
        """Error messages that name no hole."""
        return self._unattributed

    @property
    def unreadable(self) -> int:
        """Messages that are no JSON object."""
        return self._unreadable

    def example(self) -> list[Heard]:
        """The newest KeyPoints and DepthEstimation message, good ones if any."""
        with self._changed:
            return list(self._example.values())

    def error_reasons(self) -> Counter[str]:
        """How often each error was given as an answer."""
        return Counter(answer.reason for answer in self.answers().values() if answer.is_error)

    def _take(self, key: HoleKey, tail: str, body: dict[str, Any], now_s: float) -> None:
        old = self._answers.get(key, HoleAnswer())
        is_error = old.is_error or bool(body.get("Error"))
        reason = old.reason or (str(body.get("Value")) if body.get("Error") else "")
        keypoints_s, depth_s = old.keypoints_s, old.depth_s
        keypoints_count, depth_count = old.keypoints_count, old.depth_count
        if tail == self.topics.keypoints:
            keypoints_s, keypoints_count = keypoints_s or now_s, keypoints_count + 1
        else:
            depth_s, depth_count = depth_s or now_s, depth_count + 1
        new = HoleAnswer(keypoints_s, depth_s, keypoints_count, depth_count, is_error, reason)
        self._answers[key] = new
        self._complete += new.complete and not old.complete


def _body(payload: bytes) -> dict[str, Any] | None:
    try:
        body = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None
