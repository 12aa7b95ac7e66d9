"""Words the answers: the topics, fields and sentences that consumers of the depths rely on.

Owns what is on the wire. Whether a depth is published at all is the validator's decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from farm.adapter import Finished, Publication, Route
from farm.drilling.confidence import NO_CONFIDENCE

if TYPE_CHECKING:
    from farm.config import MqttConfig
    from farm.drilling.confidence import Confidence

MAX_SENTENCE_CHARS: Final = 300  # a sentence is for people; a longer one is a dump
NO_REASON: Final = "The hole could not be processed, and the reason was lost"


class ResultMessageFormatter:
    """Builds the messages of DOMAIN: keypoints and depths, or a sentence in both places."""

    def __init__(self, config: MqttConfig) -> None:
        self._root = config.listener.root
        self._keypoints = config.estimation.keypoints
        self._depths = config.estimation.depth_estimation
        self._errors = config.estimation.errors
        self._tells_model_hash = config.estimation.confidence

    def depths(
        self,
        finished: Finished,
        *,
        keypoints_mm: tuple[float, ...],
        depths_mm: tuple[float, ...],
        confidence: Confidence = NO_CONFIDENCE,
        warning: str = "",
    ) -> tuple[Publication, ...]:
        """The two messages of a hole that has depths.

        Args:
            finished: the hole.
            keypoints_mm: finite numbers, as `DepthValidator` gives them.
            depths_mm: their differences.
            confidence: what the model says of its certainty, as far as it is to be published.
            warning: a sentence to be added to both, or "".
        """
        certainty = _present(Sigma=confidence.sigma_mm, Quality=confidence.quality)
        with_tips = certainty
        if confidence.tip_mm is not None:
            with_tips = {**certainty, "TipKeyPoints": confidence.tip_mm}
        if warning:
            last = _present(Warning=sentence(warning) or None)
            certainty, with_tips = certainty | last, with_tips | last
        head = self._head(finished)
        return (
            self._publication(finished, self._keypoints, head, keypoints_mm, with_tips),
            self._publication(finished, self._depths, head, depths_mm, certainty),
        )

    def error(self, finished: Finished, reason: str) -> tuple[Publication, ...]:
        """The two messages of a hole without depths: the reason in the place of the value."""
        value, head = sentence(reason) or NO_REASON, self._head(finished)
        return tuple(
            self._publication(finished, path, head, value, {"Error": True})
            for path in (self._keypoints, self._depths)
        )

    def rejection(self, route: Route, reason: str) -> tuple[Publication, ...]:
        """The one message about a part that belongs to no hole that we know of."""
        body = {
            "SourceTimestamp": None,
            "MachineId": None,
            "ResultId": None,
            "HeadId": None,
            "Value": sentence(reason) or NO_REASON,
            "AlgoVersion": None,
            "Error": True,
            "Kind": route.kind,
        }
        return (Publication(self._topic(route.source, self._errors), orjson.dumps(body)),)

    def _head(self, finished: Finished) -> dict[str, Any]:
        """What all messages of a hole begin with, in this order; the value is to be put in."""
        provenance = finished.provenance
        head = {
            "SourceTimestamp": _text(provenance.get("SourceTimestamp")),
            "MachineId": _text(provenance.get("MachineId")),
            "ResultId": _text(finished.part_id),
            "HeadId": _text(provenance.get("HeadId")),
            "Value": None,
            "AlgoVersion": _text(finished.model_version),
        }
        # Left out rather than null where no worker had the hole: no weights answered there.
        if self._tells_model_hash and (model_hash := _text(finished.model_hash)):
            head["ModelHash"] = model_hash
        return head

    def _publication(
        self,
        finished: Finished,
        path: str,
        head: dict[str, Any],
        value: Any,
        extra: dict[str, Any],
    ) -> Publication:
        body = {**head, **extra}
        body["Value"] = value  # in its place in the head
        return Publication(self._topic(finished.source, path), orjson.dumps(body))

    def _topic(self, source: str, path: str) -> str:
        return f"{self._root}/{source}/{path}"


def sentence(text: str) -> str:
    """One line of at most MAX_SENTENCE_CHARS characters, without any that can't be printed."""
    head = text[: 4 * MAX_SENTENCE_CHARS]  # white space may shrink, so look a little further
    line = " ".join("".join(c if c.isprintable() else " " for c in head).split())
    if len(line) <= MAX_SENTENCE_CHARS:
        return line
    return line[: MAX_SENTENCE_CHARS - 1].rstrip() + "…"


def _present(**fields: Any) -> dict[str, Any]:
    """The fields that have a value, in this order."""
    return {name: value for name, value in fields.items() if value is not None}


def _text(value: object) -> str | None:
    """A text as it is, if it can be written at all; None if there is none."""
    if not isinstance(value, str) or not value:
        return None
    return value if value.isprintable() else sentence(value) or None
