"""Every message between `farm`'s own processes: its fields, its bytes, its limits.

Nothing else packs or unpacks. A message is a list of frames: frame 0 is one byte of kind followed
by a msgpack array ``[PROTOCOL, field, field, …]``; the raw parts of a job follow as frames of their
own, untouched. Never pickle.

Which socket carries what::

    jobs     PUSH ▶ PULL      Jobs                            broker ▶ worker
    results  PUSH ▶ PULL      Claim Bounce Result Bye         worker ▶ broker
    control  DEALER ▶ ROUTER  Hello Ready Heartbeat           worker ▶ broker, and the reply
                              StatsRequest Drain              command line ▶ broker, and the reply
                              SupervisorReport                supervisor ▶ broker, and the reply
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import msgpack

from farm.errors import WireError

PROTOCOL = 1  # raised with every change of a message; a worker of another version is refused

MAX_HEAD_BYTES = 4_000_000  # a head carries ids and one answer; 4 MB is far beyond both
MAX_FRAMES = 1024  # parts of one Jobs message
MAX_ITEMS = 100_000  # of one array or map
MAX_STR_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Job:
    """One join to compute: raw parts by kind, exactly as they came over MQTT."""

    job_id: int
    source: str
    part_id: str
    attempt: int
    parts: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Jobs:
    """Work for one worker; more than one job when there is a backlog."""

    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """An idle worker took these jobs and computes them now."""

    KIND: ClassVar[int] = 2
    worker_id: int
    job_ids: list[int]


@dataclass(frozen=True, slots=True)
class Bounce:
    """A busy or draining worker sends these jobs back, by id alone."""

    KIND: ClassVar[int] = 3
    worker_id: int
    job_ids: list[int]


@dataclass(frozen=True, slots=True)
class Result:
    """How one job ended. `status` is a value of `farm.adapter.Status`."""

    KIND: ClassVar[int] = 4
    worker_id: int
    job_id: int
    status: str
    value: Any
    reason: str
    provenance: dict[str, Any]
    model_version: str
    read_s: float
    infer_s: float


@dataclass(frozen=True, slots=True)
class Bye:
    """The worker has finished what it claimed and leaves on purpose."""

    KIND: ClassVar[int] = 5
    worker_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Hello:
    """A worker asks to join the farm."""

    KIND: ClassVar[int] = 16
    name: str
    host: str
    pid: int
    protocol: int


@dataclass(frozen=True, slots=True)
class Welcome:
    """The broker takes the worker in and tells it everything else."""

    KIND: ClassVar[int] = 17
    worker_id: int
    jobs_endpoint: str
    results_endpoint: str
    config: dict[str, Any]
    config_hash: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker can't do what was asked; `reason` names cause and cure."""

    KIND: ClassVar[int] = 18
    reason: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded and warmed up, and the worker is connected for jobs."""

    KIND: ClassVar[int] = 19
    worker_id: int
    model_version: str
    model_hash: str
    load_s: float


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The worker lives. `job_ids` are the claimed ones, `job_age_s` how long they take already."""

    KIND: ClassVar[int] = 20
    worker_id: int
    state: str
    job_ids: list[int]
    job_age_s: float
    jobs_done: int
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class Orders:
    """The reply to Ready and Heartbeat. Not known: say Hello again. Drain: finish and leave."""

    KIND: ClassVar[int] = 21
    known: bool
    drain: bool


@dataclass(frozen=True, slots=True)
class StatsRequest:
    """Asks for the snapshot that `farm stats` shows."""

    KIND: ClassVar[int] = 32


@dataclass(frozen=True, slots=True)
class StatsReply:
    """The snapshot: plain JSON-able data, described in `farm.telemetry.snapshot`."""

    KIND: ClassVar[int] = 33
    snapshot: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Drain:
    """Take in nothing new, finish and publish what is open, then end."""

    KIND: ClassVar[int] = 34


@dataclass(frozen=True, slots=True)
class Done:
    """The request was understood and is being carried out."""

    KIND: ClassVar[int] = 35


@dataclass(frozen=True, slots=True)
class SupervisorReport:
    """The supervisor tells which of its workers ended, as [pid, how], and asks for orders."""

    KIND: ClassVar[int] = 48
    exits: list[Any]


@dataclass(frozen=True, slots=True)
class SupervisorOrders:
    """Pids of READY workers, and workers to kill as [pid, why]."""

    KIND: ClassVar[int] = 49
    ready_pids: list[int]
    kill: list[Any]


Message = (
    Claim
    | Bounce
    | Result
    | Bye
    | Hello
    | Welcome
    | Refused
    | Ready
    | Heartbeat
    | Orders
    | StatsRequest
    | StatsReply
    | Drain
    | Done
    | SupervisorReport
    | SupervisorOrders
)

JOBS_KIND = 1
_BY_KIND: dict[int, type[Any]] = {cls.KIND: cls for cls in typing.get_args(Message)}
_ORIGINS: dict[type[Any], tuple[type[Any], ...]] = {
    int: (int,),
    float: (float, int),
    str: (str,),
    bool: (bool,),
    Any: (object,),
}


def _field_types(cls: type[Any]) -> tuple[tuple[str, tuple[type[Any], ...], bool], ...]:
    """Name, accepted types and "bool is refused" of each field, in order."""
    hints = typing.get_type_hints(cls)
    found = []
    for field in fields(cls):
        hint = hints[field.name]
        accepted = _ORIGINS.get(hint) or (typing.get_origin(hint) or hint,)
        found.append((field.name, accepted, hint in (int, float)))
    return tuple(found)


_FIELDS = {cls: _field_types(cls) for cls in _BY_KIND.values()}
_INT_LISTS = {
    cls: tuple(name for name, hint in typing.get_type_hints(cls).items() if hint == list[int])
    for cls in _BY_KIND.values()
}


def encode(message: Message) -> bytes:
    """The one frame of any message but Jobs.

    Raises:
        WireError: it is too large, or holds what msgpack can't carry.
    """
    body = [PROTOCOL, *(getattr(message, name) for name, _, _ in _FIELDS[type(message)])]
    return _pack(message.KIND, body)


def decode(frames: Sequence[bytes | memoryview]) -> Message:
    """The message in the frames of anything but the jobs socket.

    Raises:
        WireError: frames that no process of this version sends.
    """
    if len(frames) != 1:
        raise WireError(f"{len(frames)} frames where one was expected")
    kind, body = _unpack(frames[0])
    cls = _BY_KIND.get(kind)
    if cls is None:
        raise WireError(f"unknown message kind {kind}")
    layout = _FIELDS[cls]
    if len(body) != len(layout) + 1:
        raise WireError(f"{cls.__name__} with {len(body) - 1} fields instead of {len(layout)}")
    for value, (name, accepted, refuse_bool) in zip(body[1:], layout, strict=True):
        if not isinstance(value, accepted) or (refuse_bool and isinstance(value, bool)):
            raise WireError(f"{cls.__name__}.{name} can't be {type(value).__name__}")
    message = cls(*body[1:])
    for name in _INT_LISTS[cls]:
        if not all(isinstance(item, int) for item in getattr(message, name)):
            raise WireError(f"{cls.__name__}.{name} holds something that is no int")
    return typing.cast("Message", message)


def encode_jobs(message: Jobs) -> list[bytes]:
    """The frames of a Jobs message: the head, then each job's parts in the order of the head."""
    heads = [[j.job_id, j.source, j.part_id, j.attempt, list(j.parts)] for j in message.jobs]
    frames = [_pack(JOBS_KIND, [PROTOCOL, heads])]
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
    kind, body = _unpack(frames[0])
    if kind != JOBS_KIND or len(body) != 2 or not isinstance(body[1], list):
        raise WireError("not a Jobs message")
    jobs, following = [], iter(frames[1:])
    try:
        for job_id, source, part_id, attempt, kinds in body[1]:
            if not (isinstance(job_id, int) and isinstance(source, str)):
                raise WireError("a job without an id or a source")
            parts = {str(kind): next(following) for kind in kinds}
            jobs.append(Job(job_id, source, str(part_id), int(attempt), parts))
    except (ValueError, TypeError, StopIteration) as error:
        raise WireError(f"malformed Jobs message: {error!r}") from error
    if next(following, None) is not None:
        raise WireError("more frames than parts in a Jobs message")
    return Jobs(tuple(jobs))


def _pack(kind: int, body: list[Any]) -> bytes:
    try:
        packed = bytes([kind]) + typing.cast("bytes", msgpack.packb(body))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise WireError(f"can't be packed: {error}") from error
    if len(packed) > MAX_HEAD_BYTES:
        raise WireError(f"{len(packed)} bytes in one message, at most {MAX_HEAD_BYTES}")
    return packed


def _refuse_ext(code: int, _data: bytes) -> Any:
    raise WireError(f"msgpack extension type {code}")


def _unpack(frame: bytes | memoryview) -> tuple[int, list[Any]]:
    if not 0 < len(frame) <= MAX_HEAD_BYTES:
        raise WireError(f"a head of {len(frame)} bytes")
    try:
        body = msgpack.unpackb(
            memoryview(frame)[1:],
            ext_hook=_refuse_ext,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_str_len=MAX_STR_BYTES,
            max_bin_len=MAX_STR_BYTES,
            max_ext_len=0,
        )
    # msgpack's own exceptions (FormatError, StackError, ExtraData) derive from ValueError
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise WireError(f"not msgpack: {error!r}") from error
    if not isinstance(body, list) or not body or body[0] != PROTOCOL:
        found = body[0] if isinstance(body, list) and body else "none"
        raise WireError(f"protocol version {found!r} where {PROTOCOL} is spoken")
    return frame[0], body
