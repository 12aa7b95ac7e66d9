"""The adapter of the drilling units' traffic: which topics are theirs, who reads and answers them.

Owns topics alone; `farm.drilling.opcua` reads the messages, `farm.drilling.answerer` answers them.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from farm.adapter import Need, Route
from farm.drilling.answerer import DepthAnswerer
from farm.drilling.opcua import HEADS, RESULT, TRACE, OpcUaReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farm.config import Config, ListenerConfig
    from farm.drilling.hole import Hole
    from farm.drilling.viewer import HoleViewer

MAX_LEVEL_CHARS: Final = 200  # of a toolbox's and a tool's name, as in the configuration


class OpcUaAdapter:
    """Joins Result, Trace and (where sent) Heads of a drilled hole, and answers with its depths."""

    needs: Mapping[str, Need] = MappingProxyType(
        {RESULT: Need.REQUIRED, TRACE: Need.REQUIRED, HEADS: Need.OPTIONAL}
    )

    def __init__(self, config: Config) -> None:
        listener = config.mqtt.listener
        self._config = config
        self._reader = OpcUaReader(config.mqtt.data_ids, config.limits)
        self._root = listener.root + "/"
        self._toolbox = listener.toolboxid
        self._tool = listener.toolid
        self._kinds = _kinds(listener)

    def topic_filters(self) -> tuple[str, ...]:
        """The subscriptions: each configured topic and its other spelling, of the chosen tools."""
        stem = f"{self._root}{self._toolbox}/{self._tool}/"
        return tuple(stem + topic for topic in self._kinds)

    def route(self, topic: str) -> Route | None:
        """The kind and the "toolbox/tool" of a topic, or None when it is not one of ours."""
        if not topic.startswith(self._root):
            return None
        toolbox, _, rest = topic[len(self._root) :].partition("/")
        tool, _, tail = rest.partition("/")
        kind = self._kinds.get(tail)
        if kind is None or not (_fits(toolbox, self._toolbox) and _fits(tool, self._tool)):
            return None
        return Route(kind=kind, source=f"{toolbox}/{tool}")

    def part_id(self, kind: str, payload: bytes) -> str | None:
        """The result id in a message; None for Heads without a cycle counter.

        Raises:
            ReadError: there is no usable id in it.
        """
        return self._reader.part_id(kind, payload)

    def read(self, parts: Mapping[str, bytes]) -> Hole:
        """The hole of a Result and a Trace.

        Raises:
            ReadError: with a sentence that names the kind and the cause. Nothing else.
        """
        return self._reader.read_hole(parts)

    def describe(self, parts: Mapping[str, bytes]) -> Mapping[str, Any]:
        """SourceTimestamp, MachineId and HeadId as far as readable, else None. Never raises."""
        return self._reader.describe(parts)

    def answerer(self) -> DepthAnswerer:
        """A new answerer, for the broker."""
        return DepthAnswerer(self._config)

    def viewer(self) -> HoleViewer:
        """What the page shows of a hole."""
        from farm.drilling.viewer import HoleViewer  # noqa: PLC0415 - NumPy, not in the broker

        return HoleViewer(self._reader)


def _kinds(listener: ListenerConfig) -> dict[str, str]:
    """The kind of each topic after the tool: as configured, then in the other number.

    Gateways disagree on the plural: Trace or Traces, Heads or Head. What is configured wins.
    """
    kinds = {listener.result: RESULT, listener.trace: TRACE, listener.heads: HEADS}
    for topic, kind in ((listener.trace, TRACE), (listener.heads, HEADS)):
        kinds.setdefault(topic.removesuffix("s") if topic.endswith("s") else topic + "s", kind)
    return kinds


def _fits(level: str, wanted: str) -> bool:
    """Whether a topic level is the wanted one, and fit to be part of a topic that we publish to."""
    if wanted not in ("+", level) or not 0 < len(level) <= MAX_LEVEL_CHARS:
        return False
    return level.isprintable() and "+" not in level and "#" not in level
