"""The `AnswerBook`: what a farm answered, by hole. Takes messages, does no I/O.

An answer that is published again soon, byte for byte, is one answer: a farm does that after an
outage.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

    from farm.recording.traffic import Key, Traffic

MAX_VALUES: Final = 100  # of one answer
MAX_TEXT_CHARS: Final = 1000
_UNNAMED: Final = "(none)"


class HoleKey(NamedTuple):
    """A hole, by the names that it has in its recording."""

    source: str  # "toolbox/tool"
    result_id: str
    nth: int = 1  # with this id, in the order of arrival

    def __str__(self) -> str:
        return f"{self.source} {self.result_id}" + (f" #{self.nth}" if self.nth > 1 else "")


class HoleResult(NamedTuple):
    """What was answered about a hole: two lists of numbers, or a reason."""

    keypoints_mm: tuple[float, ...] | None = None
    depths_mm: tuple[float, ...] | None = None
    reason: str = ""
    algo_version: str = ""
    model_hash: str = ""

    @property
    def is_error(self) -> bool:
        """There is a reason in the place of numbers."""
        return bool(self.reason)

    @property
    def is_complete(self) -> bool:
        """Both messages came."""
        return self.keypoints_mm is not None and self.depths_mm is not None

    def __str__(self) -> str:
        if self.reason:
            return self.reason
        return f"keypoints {_told(self.keypoints_mm)}, depths {_told(self.depths_mm)} mm"


class Refusal(NamedTuple):
    """A message that the farm could attribute to no hole, or did not want."""

    source: str
    kind: str
    reason: str


@dataclass(slots=True)
class _Heard:
    """The answers about one key, oldest first."""

    results: list[HoleResult] = field(default_factory=list)
    # by tail, for each result: when it came, and its bytes
    payloads: list[dict[str, tuple[float, bytes]]] = field(default_factory=list)


class AnswerBook:
    """See the module.

    Args:
        traffic: knows the topics.
        name_of: the hole that a published key with its number among equals stands for.

    Attributes:
        refusals: how often each was told.
        repeats: messages that came again, byte for byte.
        unreadable: messages that are no answer.
    """

    def __init__(
        self, traffic: Traffic, name_of: Callable[[Key, int], HoleKey] | None = None
    ) -> None:
        self._traffic = traffic
        self._name_of = name_of or (lambda key, nth: HoleKey(*key, nth))
        self._window_s = traffic.config.mqtt.listener.time_window
        self._heard: dict[Key, _Heard] = {}
        self.refusals: Counter[Refusal] = Counter()
        self.repeats = 0
        self.unreadable = 0

    def take(self, topic: str, payload: bytes, at_s: float) -> None:
        """One message, and when it came; never raises, whatever is in it."""
        found = self._traffic.answer(topic)
        if found is None:
            return
        try:
            body = orjson.loads(payload)
        except orjson.JSONDecodeError:
            body = None
        if not isinstance(body, dict):
            self.unreadable += 1
            return
        keypoints, _, errors = self._traffic.answer_tails
        if found.tail == errors:
            self._refuse(found.source, body)
            return
        result_id = body.get("ResultId")
        if not isinstance(result_id, str):
            self.unreadable += 1
            return
        heard = self._heard.setdefault((found.source, result_id), _Heard())
        result = _read(body, is_keypoints=found.tail == keypoints)
        self._add(heard, found.tail, (at_s, payload), result)

    def results(self) -> dict[HoleKey, HoleResult]:
        """What was answered so far."""
        found: dict[HoleKey, HoleResult] = {}
        for key, heard in self._heard.items():
            for at, result in enumerate(heard.results, 1):
                name = self._name_of(key, at)
                reason = _renamed(result.reason, key[1], name.result_id)
                found[name] = result._replace(reason=reason)
        return found

    def is_answered(self, key: Key, nth: int = 1) -> bool:
        """Whether both messages of so many answers came for a published key."""
        heard = self._heard.get(key)
        return (
            heard is not None
            and len(heard.payloads) >= nth
            and len(heard.payloads[nth - 1]) == len(self._traffic.answer_tails) - 1
        )

    def _add(self, heard: _Heard, tail: str, came: tuple[float, bytes], result: HoleResult) -> None:
        for known in heard.payloads:
            if tail in known and self._repeats(known[tail], came):
                self.repeats += 1
                return
        for at, known in enumerate(heard.payloads):
            if tail not in known:
                known[tail] = came
                heard.results[at] = _joined(heard.results[at], result)
                return
        heard.payloads.append({tail: came})
        heard.results.append(result)

    def _repeats(self, known: tuple[float, bytes], came: tuple[float, bytes]) -> bool:
        # later it is another hole that is the same byte for byte, as a farm takes it, too
        return known[1] == came[1] and came[0] - known[0] <= self._window_s

    def _refuse(self, source: str, body: dict[str, Any]) -> None:
        kind, reason = _text(body.get("Kind")), _text(body.get("Value"))
        self.refusals[Refusal(source, kind or _UNNAMED, reason or _UNNAMED)] += 1


def _read(body: dict[str, Any], *, is_keypoints: bool) -> HoleResult:
    value = body.get("Value")
    version, model_hash = _text(body.get("AlgoVersion")), _text(body.get("ModelHash"))
    if body.get("Error") or not isinstance(value, list):
        reason = _text(value) or "(an error without a reason)"
        return HoleResult(reason=reason, algo_version=version, model_hash=model_hash)
    numbers = tuple(
        float(each) if type(each) in (int, float) else math.nan for each in value[:MAX_VALUES]
    )
    found = HoleResult(algo_version=version, model_hash=model_hash)
    return (
        found._replace(keypoints_mm=numbers) if is_keypoints else found._replace(depths_mm=numbers)
    )


def _joined(one: HoleResult, other: HoleResult) -> HoleResult:
    return HoleResult(
        one.keypoints_mm if one.keypoints_mm is not None else other.keypoints_mm,
        one.depths_mm if one.depths_mm is not None else other.depths_mm,
        one.reason or other.reason,
        one.algo_version or other.algo_version,
        one.model_hash or other.model_hash,
    )


def _renamed(sentence: str, old_id: str, new_id: str) -> str:
    """A sentence of the farm's with the recorded id in the place of the one it was given."""
    if old_id == new_id or old_id not in sentence:
        return sentence
    return re.sub(rf"(?<!\w){re.escape(old_id)}(?!\w)", lambda _: new_id, sentence)


def _text(value: Any) -> str:
    return value[:MAX_TEXT_CHARS] if isinstance(value, str) else ""


def _told(values: tuple[float, ...] | None) -> str:
    return "-" if values is None else "[" + ", ".join(f"{value:g}" for value in values) + "]"
