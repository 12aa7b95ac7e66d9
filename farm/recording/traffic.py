"""The `Traffic`: what the messages of a recording are about, as the configuration reads them.

Owns the one look at a topic and an id that recording, replaying and comparing share. It is the very
look of a farm with the same configuration: its adapter, behind its guard.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from farm.adapter import Need, load_adapter
from farm.broker.guard import GuardedAdapter
from farm.drilling.adapter import OpcUaAdapter
from farm.errors import ReadError

if TYPE_CHECKING:
    from farm.adapter import Route
    from farm.config import Config

_SHARE: Final = "$share/"

Key = tuple[str, str]  # "toolbox/tool", result id


class AnswerTopic(NamedTuple):
    """Where an answer was published."""

    tail: str  # one of the three paths of `mqtt.estimation`
    source: str


class Traffic:
    """See the module.

    Attributes:
        filters: what to subscribe to for the messages that a farm takes in.
        answer_filters: the same for its answers; empty where they can't be read.
        required: the kinds without which there is no hole.
        is_drilling: ids and names in it can be rewritten.
        root: what the topics of drilling units and of answers begin with.

    Raises:
        ConfigError: the adapter can't be loaded.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        adapter = load_adapter(config)
        self.is_drilling = isinstance(adapter, OpcUaAdapter)
        # with a share of a group's messages a recorder would take them from the farm
        self.filters = tuple(dict.fromkeys(_unshared(each) for each in adapter.topic_filters()))
        self.required = frozenset(k for k, need in adapter.needs.items() if need is Need.REQUIRED)
        self._adapter = GuardedAdapter(
            adapter, max_part_bytes=config.limits.message_bytes, counts=Counter()
        )
        listener, estimation = config.mqtt.listener, config.mqtt.estimation
        self.root = listener.root
        self._root = f"{listener.root}/"
        self.answer_tails: tuple[str, ...] = (
            (estimation.keypoints, estimation.depth_estimation, estimation.errors)
            if self.is_drilling
            else ()
        )
        self.answer_filters = tuple(
            f"{self._root}{listener.toolboxid}/{listener.toolid}/{tail}"
            for tail in self.answer_tails
        )

    def route(self, topic: str) -> Route | None:
        """The kind and source of a message that a farm takes in; None for any other."""
        return self._adapter.route(topic)

    def part_id(self, kind: str, payload: bytes) -> str | None:
        """The id of the hole that a message belongs to; None where it has no usable one."""
        try:
            return self._adapter.part_id(kind, payload)
        except ReadError:
            return None

    def answer(self, topic: str) -> AnswerTopic | None:
        """What an answer's topic says; None where it is none."""
        if not topic.startswith(self._root):
            return None
        toolbox, _, rest = topic[len(self._root) :].partition("/")
        tool, _, tail = rest.partition("/")
        # kept once, however many holes of a tool are remembered
        return (
            AnswerTopic(tail, sys.intern(f"{toolbox}/{tool}"))
            if tail in self.answer_tails
            else None
        )

    def answered(self, topic: str, payload: bytes) -> Key | None:
        """The hole that an answer is about; None where it names none."""
        found = self.answer(topic)
        try:
            body = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return None
        result_id = body.get("ResultId") if isinstance(body, dict) else None
        return (found.source, result_id) if found and isinstance(result_id, str) else None

    def source(self, topic: str) -> str:
        """The source of any recorded message; "" where its topic names none."""
        if (route := self.route(topic)) is not None:
            return route.source
        answer = self.answer(topic)
        return answer.source if answer is not None else ""


def _unshared(topic_filter: str) -> str:
    if not topic_filter.startswith(_SHARE):
        return topic_filter
    return topic_filter.split("/", 2)[-1]  # MQTT 5, section 4.8.2: $share/group/filter
