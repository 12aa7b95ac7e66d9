"""The `AnswerBook`: what a farm answered, by hole. Takes messages, does no I/O.

An answer that is published again soon, byte for byte, is one answer: a farm does that after an
outage.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from farm.recording.sentences import with_ids, with_words

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


class _Came(NamedTuple):
    """One message of an answer: when it came, and what tells its bytes from others."""

    at_s: float
    content: int


@dataclass(slots=True)
class _Answer:
    """An answer about a hole, as far as it has come."""

    result: HoleResult
    keypoints: _Came | None = None
    depths: _Came | None = None

    def came(self, *, is_keypoints: bool) -> _Came | None:
        return self.keypoints if is_keypoints else self.depths

    def note(self, came: _Came, *, is_keypoints: bool) -> None:
        if is_keypoints:
            self.keypoints = came
        else:
            self.depths = came


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
        self._answers: dict[Key, list[_Answer]] = {}  # of each key, oldest first
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
        is_keypoints = found.tail == keypoints
        result = _read(body, is_keypoints=is_keypoints)
        answers = self._answers.setdefault((sys.intern(found.source), result_id), [])
        self._add(answers, _Came(at_s, hash(payload)), result, is_keypoints=is_keypoints)

    def results(self) -> dict[HoleKey, HoleResult]:
        """What was answered so far."""
        found: dict[HoleKey, HoleResult] = {}
        for key, answers in self._answers.items():
            for at, answer in enumerate(answers, 1):
                name = self._name_of(key, at)
                reason = _renamed(answer.result.reason, key[1], name.result_id)
                found[name] = answer.result._replace(reason=reason)
        return found

    def is_answered(self, key: Key, nth: int = 1) -> bool:
        """Whether both messages of so many answers came for a published key."""
        answers = self._answers.get(key, ())
        if len(answers) < nth:
            return False
        answer = answers[nth - 1]
        return answer.keypoints is not None and answer.depths is not None

    def _add(
        self, answers: list[_Answer], came: _Came, result: HoleResult, *, is_keypoints: bool
    ) -> None:
        known = [each.came(is_keypoints=is_keypoints) for each in answers]
        if any(each is not None and self._repeats(each, came) for each in known):
            self.repeats += 1
            return
        for answer, before in zip(answers, known, strict=True):
            if before is None:
                answer.note(came, is_keypoints=is_keypoints)
                answer.result = _joined(answer.result, result)
                return
        answers.append(_Answer(result))
        answers[-1].note(came, is_keypoints=is_keypoints)

    def _repeats(self, known: _Came, came: _Came) -> bool:
        # later it is another hole that is the same byte for byte, as a farm takes it, too
        return known.content == came.content and came.at_s - known.at_s <= self._window_s

    def _refuse(self, source: str, body: dict[str, Any]) -> None:
        kind, reason = _text(body.get("Kind")), _text(body.get("Value"))
        reason = with_ids(reason, lambda text: self._name_of((source, text), 1).result_id)
        self.refusals[Refusal(source, kind or _UNNAMED, reason or _UNNAMED)] += 1


def _read(body: dict[str, Any], *, is_keypoints: bool) -> HoleResult:
    value = body.get("Value")
    # the same for nearly all holes: kept once
    version, model_hash = (
        sys.intern(_text(body.get(name))) for name in ("AlgoVersion", "ModelHash")
    )
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
    return with_words(sentence, {old_id: new_id})


def _text(value: Any) -> str:
    return value[:MAX_TEXT_CHARS] if isinstance(value, str) else ""


def _told(values: tuple[float, ...] | None) -> str:
    return "-" if values is None else "[" + ", ".join(f"{value:g}" for value in values) + "]"
