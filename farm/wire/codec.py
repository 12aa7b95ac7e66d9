"""Messages to frames and back. What comes is checked to the last field before it is a message."""

from __future__ import annotations

import typing
from typing import Any

from farm.errors import WireError
from farm.wire.checks import all_are, are_notes, is_a, is_shallow
from farm.wire.frame import PROTOCOL, pack, unpack
from farm.wire.jobs import JOBS_KIND, Job, Jobs, Result
from farm.wire.layout import BY_KIND, KINDS, LAYOUTS
from farm.wire.limits import MAX_DEPTH, MAX_FRAMES, MAX_NAME_CHARS, MAX_REASON_CHARS
from farm.wire.worker import Heartbeat

if typing.TYPE_CHECKING:
    from collections.abc import Sequence

    from farm.wire.layout import Message

# What every valid `Result` looks like: looked at in one comparison.
_RESULT_TYPES = [int, int, str, object, str, dict, str, str, float, float, float, int]
_RESULT_VALUE_AT = 3
_MOST_SECONDS = 1e9  # of a time in a result; NaN is no time either
# How a worker may say it is: by its own word, or by the broker's.
_STATES = frozenset({"joining", "loading", "working", "draining", "left", "idle", "busy"})


def encode(message: Message) -> bytes:
    """The one frame of any message but Jobs.

    Raises:
        WireError: it is too large, or holds what msgpack can't carry.
    """
    body = [PROTOCOL, *(getattr(message, name) for name, _, _ in LAYOUTS[type(message)])]
    frame = pack(KINDS[type(message)], body)
    if type(message) is Result:
        # A model's answer is a stranger's data. What the broker would refuse (a key that is no
        # str, an array beyond the limits) must fail here, where the hole can still be answered.
        decode([frame])
    return frame


def decode(frames: Sequence[bytes | memoryview]) -> Message:
    """The message in the frames of anything but the jobs socket.

    Raises:
        WireError: frames that no process of this version sends.
    """
    if len(frames) != 1:
        raise WireError(f"{len(frames)} frames where one was expected")
    kind, body = unpack(frames[0])
    cls = BY_KIND.get(kind)
    if cls is None:
        raise WireError(f"unknown message kind {kind}")
    layout = LAYOUTS[cls]
    if len(body) != len(layout) + 1:
        raise WireError(f"{cls.__name__} with {len(body) - 1} fields instead of {len(layout)}")
    values = body[1:]
    if cls is Result:
        types = [*map(type, values)]
        types[_RESULT_VALUE_AT] = object  # a value may be anything
        if types == _RESULT_TYPES:
            _check_result(values)
            return Result(*values)
    _check_fields(cls, values)
    if cls is Result:
        _check_result(values)
    if cls is Heartbeat and values[1] not in _STATES:
        raise WireError(f"Heartbeat in no state that there is: {values[1]!r:.40}")
    return typing.cast("Message", cls(*values))


def _check_fields(cls: type[Any], values: list[Any]) -> None:
    """Each field by itself; msgpack has made lists of tuples, which become such again.

    Raises:
        WireError: one is of the wrong type, or too long.
    """
    for index, (name, check, most) in enumerate(LAYOUTS[cls]):
        if not check(values[index]):
            raise WireError(f"{cls.__name__}.{name} can't be this {type(values[index]).__name__}")
        if most and len(values[index]) > most:
            raise WireError(f"{cls.__name__}.{name} of {len(values[index])}, at most {most}")
        if check is are_notes:
            values[index] = [tuple(note) for note in values[index]]


def _check_result(result: list[Any]) -> None:
    """What the types of a Result don't tell: decisions are made of its times, its texts are kept.

    Raises:
        WireError: no worker of ours sends that.
    """
    _, _, status, value, reason, provenance, version, model_hash, *times, _ = result
    longest = len(status) + len(version) + len(model_hash)  # mostly far below what one may have
    if len(reason) > MAX_REASON_CHARS or (
        longest > MAX_NAME_CHARS and max(map(len, (status, version, model_hash))) > MAX_NAME_CHARS
    ):
        raise WireError(
            f"Result with a text that is too long: at most {MAX_REASON_CHARS} characters of a "
            f"reason, {MAX_NAME_CHARS} of status, model version and hash"
        )
    if not (is_shallow(value) and is_shallow(provenance)):
        raise WireError(f"Result with more than {MAX_DEPTH} arrays and maps inside each other")
    read_s, infer_s, demand = times
    are_times = 0 <= read_s < _MOST_SECONDS and 0 <= infer_s < _MOST_SECONDS
    if not (are_times and 0 <= demand < _MOST_SECONDS):
        raise WireError(f"Result with times that are none: {times!r:.100}")


_JOB_HEAD = (  # as encode_jobs writes it
    *(is_a(int), is_a(str), is_a(str), is_a(int), all_are(is_a(str)), is_a(int)),
)


def encode_jobs(message: Jobs) -> list[bytes]:
    """The frames of a Jobs message: the head, then each job's parts in the order of the head."""
    heads = [
        [j.job_id, j.source, j.part_id, j.attempt, list(j.parts), j.ticket] for j in message.jobs
    ]
    frames = [pack(JOBS_KIND, [PROTOCOL, heads, message.alone])]
    for job in message.jobs:
        frames.extend(job.parts.values())
    if len(frames) > MAX_FRAMES:
        raise WireError(f"{len(frames)} frames in one Jobs message, at most {MAX_FRAMES}")
    return frames


def decode_jobs(frames: Sequence[bytes]) -> Jobs:
    """The Jobs in the frames of the jobs socket.

    Raises:
        WireError: frames that no broker of this version sends.
    """
    if not 0 < len(frames) <= MAX_FRAMES:
        raise WireError(f"{len(frames)} frames in one Jobs message")
    kind, body = unpack(frames[0])
    if kind != JOBS_KIND or [type(field) for field in body[1:]] != [list, bool]:
        raise WireError("not a Jobs message")
    jobs, following = [], iter(frames[1:])
    for head in body[1]:
        if not (isinstance(head, list) and len(head) == len(_JOB_HEAD)):
            raise WireError("a job's head of the wrong shape")
        if not all(check(value) for check, value in zip(_JOB_HEAD, head, strict=True)):
            raise WireError("a job's head with a field of the wrong type")
        job_id, source, part_id, attempt, kinds, ticket = head
        parts = dict(zip(kinds, following, strict=False))
        if len(parts) != len(kinds):
            raise WireError("fewer frames than parts in a Jobs message, or a kind named twice")
        jobs.append(Job(job_id, source, part_id, attempt, parts, ticket))
    if next(following, None) is not None:
        raise WireError("more frames than parts in a Jobs message")
    return Jobs(tuple(jobs), body[2])
