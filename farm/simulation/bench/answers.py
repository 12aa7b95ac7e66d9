"""Recognises a farm's answers by a few bytes, without reading them."""

from __future__ import annotations

from typing import Final, NamedTuple

import orjson

from farm.simulation.bench.packets import FIRST_ID
from farm.simulation.listener import AnswerTopics

TOPICS: Final = AnswerTopics()
_ROOT_CHARS: Final = len(f"{TOPICS.root}/")
_DEPTH: Final = f"/{TOPICS.depth}".encode()
_KEYPOINTS: Final = f"/{TOPICS.keypoints}".encode()
_FIELD: Final = b'"ResultId":"'  # as farm writes it; others are read as a whole
_ID_DIGITS: Final = len(str(FIRST_ID))


class Answer(NamedTuple):
    """What an answer is about."""

    source: bytes  # "toolbox/tool"
    result_id: int
    is_depth: bool  # else it is the keypoints


def recognise(topic: bytes, payload: bytes) -> Answer | None:
    """The answer that a message is; None if it is none, or names no hole."""
    is_depth = topic.endswith(_DEPTH)
    if not is_depth and not topic.endswith(_KEYPOINTS):
        return None
    result_id = _result_id(payload)
    if result_id is None:
        return None
    tail = _DEPTH if is_depth else _KEYPOINTS
    return Answer(topic[_ROOT_CHARS : -len(tail)], result_id, is_depth)


def error_of(payload: bytes) -> str:
    """The reason that an answer gives instead of values; "" when it gives values."""
    if b'"Error"' not in payload:
        return ""
    body = orjson.loads(payload)
    return str(body.get("Value")) if body.get("Error") else ""


def _result_id(payload: bytes) -> int | None:
    at = payload.find(_FIELD)
    begin = at + len(_FIELD)
    end = begin + _ID_DIGITS
    digits = payload[begin:end]
    if at < 0 or not digits.isdigit() or payload[end : end + 1] != b'"':
        try:
            digits = str(orjson.loads(payload)["ResultId"]).encode()
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return None
    return int(digits) if digits.isdigit() else None
