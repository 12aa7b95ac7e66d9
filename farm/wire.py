"""Every message between `farm`'s own processes: its fields, its bytes, its limits.

Nothing else packs or unpacks. A message is a list of frames: frame 0 is one byte of kind followed
by a msgpack array ``[PROTOCOL, field, field, …]``; the raw parts of a job follow as frames of their
own, untouched. Never pickle.

Which socket carries what::

    jobs     PUSH ▶ PULL      Jobs                            broker ▶ worker
    results  PUSH ▶ PULL      Claim Bounce Bye, and Result,   worker ▶ broker
                              each of a batch in a frame
    control  DEALER ▶ ROUTER  Hello Ready Heartbeat Fetch     worker ▶ broker, and the reply
                              StatsRequest StoryRequest       command line ▶ broker, and the reply
                              Drain Pause Resume Scale DrainWorker Retry Drop
                              SupervisorReport Reload Configured
                                                              supervisor ▶ broker, and the reply
                              FleetReport                     fleet ▶ broker, and the reply
    a pair of sockets         Load Fork, NurseryReady         supervisor ▶ nursery, and its reply
"""

from __future__ import annotations

import typing
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NamedTuple

import msgpack  # type: ignore[import-untyped]

from farm.errors import WireError
from farm.slot import MAX_JOBS

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PROTOCOL = 6  # raised with every change of a message; a worker of another version is refused

# A head carries ids and one answer; 1 MB is far beyond both. It bounds what a hostile head can
# become in memory: empty maps, one byte each, grow by a factor of 64.
MAX_HEAD_BYTES = 1_000_000
MAX_FRAMES = 1024  # parts of one Jobs message; frames of one message of results
MAX_ITEMS = 100_000  # of one array or map
MAX_DEPTH = (
    64  # arrays and maps inside each other; a thousand would end who formats or compares them
)
MAX_NAME_CHARS = 255  # of a worker, a host, a file, a model; DNS allows as many
MAX_KEY_CHARS = 1000  # of a source or a part id, as the guard lets in
MAX_REASON_CHARS = 100_000  # a model may say much, with a traceback in it


class Job(NamedTuple):
    """One join to compute: raw parts by kind, exactly as they came over MQTT."""

    job_id: int
    source: str
    part_id: str
    attempt: int
    parts: Mapping[str, bytes]
    ticket: int = 0  # proves that its worker was sent it, see `farm.doors.tickets`


class Jobs(NamedTuple):
    """Work for one worker; more than one job when there is a backlog.

    `alone`: the job has cost a worker, and must be computed by itself, without others that the same
    worker may have gathered.
    """

    jobs: tuple[Job, ...]
    alone: bool = False


_NO_TICKETS: list[int] = []  # nobody appends to a message


class Claim(NamedTuple):
    """An idle worker took these jobs and computes them now; a ticket for each of them."""

    worker_id: int
    job_ids: list[int]
    tickets: list[int] = _NO_TICKETS


class Bounce(NamedTuple):
    """A busy or draining worker sends these jobs back, by id and ticket alone."""

    worker_id: int
    job_ids: list[int]
    tickets: list[int] = _NO_TICKETS


class Result(NamedTuple):
    """How one job ended. `status` is a value of `farm.adapter.Status`."""

    worker_id: int
    job_id: int
    status: str
    value: Any
    reason: str
    provenance: dict[str, Any]
    model_version: str
    model_hash: str
    read_s: float
    infer_s: float
    demand: float = 0.0  # of a core, by its batch while it was not kept from one; 0: not known
    ticket: int = 0


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
    device: str = ""  # the GPU that it computes on, as people call it; "": none
    batch_jobs: int = 0  # the most that one batch of it may have; 0: what the farm says


@dataclass(frozen=True, slots=True)
class Welcome:
    """The broker takes the worker in and tells it everything else."""

    KIND: ClassVar[int] = 17
    worker_id: int
    jobs_endpoint: str
    results_endpoint: str
    config: dict[str, Any]
    config_hash: str
    slot: str  # path of the black-box slot of this incarnation; "" for a worker of another host
    golden: dict[str, Any]  # parts by kind of a hole that was answered here; {}: none yet
    package: dict[
        str, Any
    ]  # the model's files, for a worker of another host: see `farm.broker.library`
    batch_jobs: int = 0  # of one batch that it gathers from several messages; 0: it gathers none


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
    golden: dict[str, Any]  # status, value and reason of the golden hole; {}: none was given


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The worker lives; what it computes is known from its claims."""

    KIND: ClassVar[int] = 20
    worker_id: int
    state: str
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class Orders:
    """The reply to Ready and Heartbeat. Not known: say Hello again.

    `taken`: jobs of which this worker's results have come since the last such reply; told to those
    that came through a door, where a message may be lost on the way. `leave`: finish and leave, for
    this reason; `anew`: and come back as a new process.
    """

    KIND: ClassVar[int] = 21
    known: bool
    taken: list[int] = field(default_factory=list)
    leave: str = ""
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Fetch:
    """A worker of another host asks for a piece of a file of the model's package."""

    KIND: ClassVar[int] = 22
    name: str
    offset: int


@dataclass(frozen=True, slots=True)
class Piece:
    """So much of it, from there on; nothing: that was the end."""

    KIND: ClassVar[int] = 23
    payload: bytes


@dataclass(frozen=True, slots=True)
class StatsRequest:
    """Asks for the snapshot that `farm stats` shows."""

    KIND: ClassVar[int] = 32


@dataclass(frozen=True, slots=True)
class StatsReply:
    """The snapshot: plain JSON-able data, described in `farm.broker.snapshot`."""

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
class Pause:
    """Take in nothing more until Resume; what was taken in is finished."""

    KIND: ClassVar[int] = 36


@dataclass(frozen=True, slots=True)
class Resume:
    """Take in messages again."""

    KIND: ClassVar[int] = 37


@dataclass(frozen=True, slots=True)
class Scale:
    """Keep this many local workers from now on; AUTO: as many as the load and the bounds say."""

    KIND: ClassVar[int] = 38
    AUTO: ClassVar[int] = -1
    workers: int


@dataclass(frozen=True, slots=True)
class Configured:
    """The configured number of workers is another from now on: what `Scale.AUTO` goes back to."""

    KIND: ClassVar[int] = 51
    workers: int


@dataclass(frozen=True, slots=True)
class DrainWorker:
    """Have the workers of this name finish what they have and leave."""

    KIND: ClassVar[int] = 52
    name: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Compute these dead letters again, under new hole ids."""

    KIND: ClassVar[int] = 39
    hole_ids: list[int]


@dataclass(frozen=True, slots=True)
class Drop:
    """Strike these dead letters off the list; their records go with the journal's retention."""

    KIND: ClassVar[int] = 40
    hole_ids: list[int]


@dataclass(frozen=True, slots=True)
class Handled:
    """The reply to Retry and Drop: which were done, and why the others were not."""

    KIND: ClassVar[int] = 41
    done: list[int]
    refused: list[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class StoryRequest:
    """Asks what has happened so far to the open holes of this key."""

    KIND: ClassVar[int] = 42
    source: str
    part_id: str


@dataclass(frozen=True, slots=True)
class StoryReply:
    """The stories of open holes, as `farm.broker.story.Story.told` gives them, by hole id."""

    KIND: ClassVar[int] = 43
    stories: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration again and give it to the workers that join from now on."""

    KIND: ClassVar[int] = 50


@dataclass(frozen=True, slots=True)
class SupervisorReport:
    """The supervisor tells which of its workers ended, as (pid, how), which of its slots it has
    given up, as (number, how the last one ended), how workers are launched, and asks for orders.
    """

    KIND: ClassVar[int] = 48
    exits: list[tuple[int, str]]
    failed: list[tuple[int, str]]
    nursery: dict[str, Any]  # as `Launcher.told` gives it, for `farm stats`
    gpus: dict[str, Any] = field(default_factory=dict)  # workers with a GPU by name: how the last
    # one ended where it has given one up, else ""


@dataclass(frozen=True, slots=True)
class SupervisorOrders:
    """Pids of READY workers, workers to kill as (pid, why), and how many workers to keep."""

    KIND: ClassVar[int] = 49
    ready_pids: list[int]
    kill: list[tuple[int, str]]
    workers: int  # by Scale or by the load; -1: nobody said anything, keep what is configured
    pinned: bool  # by Scale: a broker that comes after this one must be told


@dataclass(frozen=True, slots=True)
class FleetReport:
    """The fleet tells the names of the workers that it keeps on Ray, and how it is with them, and
    asks how many there should be.
    """

    KIND: ClassVar[int] = 53
    names: list[str]
    told: dict[str, Any]  # as `Fleet.told` gives it, for `farm stats`


@dataclass(frozen=True, slots=True)
class FleetOrders:
    """How many workers to keep; -1: nobody has the say yet, keep those that there are."""

    KIND: ClassVar[int] = 54
    workers: int


@dataclass(frozen=True, slots=True)
class Load:
    """What a nursery is to load, as a Welcome tells it to a worker, and where workers join."""

    KIND: ClassVar[int] = 66
    config: dict[str, Any]
    control_endpoint: str


@dataclass(frozen=True, slots=True)
class NurseryReady:
    """The nursery has loaded and warmed up the model, or can't be forked from: `unfit` says why."""

    KIND: ClassVar[int] = 64
    unfit: str
    model_version: str
    load_s: float


@dataclass(frozen=True, slots=True)
class Fork:
    """Fork a worker of this name. The birth socket, whose other end the supervisor holds, comes
    with it: the worker tells its pid there, in digits, and begins when it hears BEGIN.
    """

    KIND: ClassVar[int] = 65
    name: str


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
    | Fetch
    | Piece
    | StatsRequest
    | StatsReply
    | Drain
    | Done
    | Pause
    | Resume
    | Scale
    | Configured
    | DrainWorker
    | Retry
    | Drop
    | Handled
    | StoryRequest
    | StoryReply
    | Reload
    | SupervisorReport
    | SupervisorOrders
    | FleetReport
    | FleetOrders
    | Load
    | NurseryReady
    | Fork
)

JOBS_KIND = 1
BEGIN = b"begin"  # the supervisor knows a newborn worker
# Those that come for every hole are named tuples, which are made in a third of the time of a frozen
# dataclass; a tuple has no room for its kind.
_HOT_KINDS: dict[type[Any], int] = {Claim: 2, Bounce: 3, Result: 4}


def _is(*accepted: type[Any]) -> Callable[[Any], bool]:
    """A check for exactly these types: a bool is no int here."""
    return lambda value: type(value) in accepted


def _all(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: type(value) is list and all(map(check, value))


def _is_note(value: Any) -> bool:
    """Whether this was a pid and a sentence; msgpack has made a list of the tuple."""
    return type(value) is list and [type(item) for item in value] == [int, str]


def _is_shallow(value: Any, room: int = MAX_DEPTH) -> bool:
    """Whether arrays and maps lie in it no deeper than that."""
    if type(value) is dict:
        value = value.values()
    elif type(value) is not list:
        return True
    if not room:
        return False
    for each in value:  # most of what there is, is no container: it costs no call
        kind = type(each)
        if (kind is list or kind is dict) and not _is_shallow(each, room - 1):
            return False
    return True


def _is_number(value: Any) -> bool:
    return type(value) in (float, int) and -_MOST <= value <= _MOST  # NaN is none


_MOST = 1e18  # of any number that is not an id
_are_notes = _all(_is_note)
_CHECKS: dict[Any, Callable[[Any], bool]] = {
    int: _is(int),
    float: _is_number,
    str: _is(str),
    bool: _is(bool),
    bytes: _is(bytes),
    # other keys than str are refused by the unpacker
    dict[str, Any]: lambda value: type(value) is dict and _is_shallow(value),
    list[int]: _all(_is(int)),
    list[str]: _all(_is(str)),
    list[tuple[int, str]]: _are_notes,
    Any: _is_shallow,
}
_KINDS: dict[type[Any], int] = {
    cls: _HOT_KINDS.get(cls) or cls.KIND for cls in typing.get_args(Message)
}
_BY_KIND = {kind: cls for cls, kind in _KINDS.items()}


def _layout(cls: type[Any]) -> tuple[tuple[str, Callable[[Any], bool], int], ...]:
    """Name, check and most characters or items (0: any) of each field, in order."""
    hints = typing.get_type_hints(cls)
    names = cls._fields if cls in _HOT_KINDS else [field.name for field in fields(cls)]
    return tuple((name, _CHECKS[hints[name]], _MOST_OF.get((cls, name), 0)) for name in names)


# What every valid `Result` looks like: looked at in one comparison.
_RESULT_TYPES = [int, int, str, object, str, dict, str, str, float, float, float, int]
_RESULT_VALUE_AT = 3
_MOST_SECONDS = 1e9  # of a time in a result; NaN is no time either
# How long a text of a message may be, how many ids it may have; others are bounded by the head.
_MOST_OF: dict[tuple[type[Any], str], int] = {
    (Claim, "job_ids"): MAX_JOBS,
    (Claim, "tickets"): MAX_JOBS,
    (Bounce, "job_ids"): MAX_JOBS,
    (Bounce, "tickets"): MAX_JOBS,
    (Result, "status"): MAX_NAME_CHARS,
    (Result, "reason"): MAX_REASON_CHARS,
    (Result, "model_version"): MAX_NAME_CHARS,
    (Result, "model_hash"): MAX_NAME_CHARS,
    (Bye, "reason"): MAX_KEY_CHARS,
    (Hello, "name"): MAX_NAME_CHARS,
    (Hello, "host"): MAX_NAME_CHARS,
    (Hello, "device"): MAX_NAME_CHARS,
    (Ready, "model_version"): MAX_NAME_CHARS,
    (Ready, "model_hash"): MAX_NAME_CHARS,
    (Heartbeat, "state"): MAX_NAME_CHARS,
    (Fetch, "name"): MAX_NAME_CHARS,
    (DrainWorker, "name"): MAX_NAME_CHARS,
    (StoryRequest, "source"): MAX_KEY_CHARS,
    (StoryRequest, "part_id"): MAX_KEY_CHARS,
    (Fork, "name"): MAX_NAME_CHARS,
}
# How a worker may say it is: by its own word, or by the broker's.
_STATES = frozenset({"joining", "loading", "working", "draining", "left", "idle", "busy"})
_LAYOUTS = {cls: _layout(cls) for cls in _KINDS}


def kind_of(cls: type[Any]) -> int:
    """The byte that tells messages of this class."""
    return _KINDS[cls]


def encode(message: Message) -> bytes:
    """The one frame of any message but Jobs.

    Raises:
        WireError: it is too large, or holds what msgpack can't carry.
    """
    body = [PROTOCOL, *(getattr(message, name) for name, _, _ in _LAYOUTS[type(message)])]
    frame = _pack(_KINDS[type(message)], body)
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
    kind, body = _unpack(frames[0])
    cls = _BY_KIND.get(kind)
    if cls is None:
        raise WireError(f"unknown message kind {kind}")
    layout = _LAYOUTS[cls]
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
    for index, (name, check, most) in enumerate(_LAYOUTS[cls]):
        if not check(values[index]):
            raise WireError(f"{cls.__name__}.{name} can't be this {type(values[index]).__name__}")
        if most and len(values[index]) > most:
            raise WireError(f"{cls.__name__}.{name} of {len(values[index])}, at most {most}")
        if check is _are_notes:
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
    if not (_is_shallow(value) and _is_shallow(provenance)):
        raise WireError(f"Result with more than {MAX_DEPTH} arrays and maps inside each other")
    read_s, infer_s, demand = times
    are_times = 0 <= read_s < _MOST_SECONDS and 0 <= infer_s < _MOST_SECONDS
    if not (are_times and 0 <= demand < _MOST_SECONDS):
        raise WireError(f"Result with times that are none: {times!r:.100}")


_JOB_HEAD = (  # as encode_jobs writes it
    *(_is(int), _is(str), _is(str), _is(int), _all(_is(str)), _is(int)),
)


def encode_jobs(message: Jobs) -> list[bytes]:
    """The frames of a Jobs message: the head, then each job's parts in the order of the head."""
    heads = [
        [j.job_id, j.source, j.part_id, j.attempt, list(j.parts), j.ticket] for j in message.jobs
    ]
    frames = [_pack(JOBS_KIND, [PROTOCOL, heads, message.alone])]
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


def _refuse_bytes(found: dict[Any, Any]) -> dict[Any, Any]:
    """Of keys, msgpack lets text and bytes through; what is answered or shown is JSON."""
    if bytes in map(type, found):
        raise WireError("a key of bytes in a map")
    return found


def _unpack(frame: bytes | memoryview) -> tuple[int, list[Any]]:
    if not 0 < len(frame) <= MAX_HEAD_BYTES:
        raise WireError(f"a head of {len(frame)} bytes")
    try:
        body = msgpack.unpackb(
            frame[1:],
            ext_hook=_refuse_ext,
            object_hook=_refuse_bytes,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_str_len=MAX_HEAD_BYTES,
            max_bin_len=MAX_HEAD_BYTES,
            max_ext_len=0,
        )
    # msgpack's own exceptions (FormatError, StackError, ExtraData) derive from ValueError. Some say
    # nothing; ExtraData's repr holds all that was unpacked, and fails itself where that is nested.
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        # its name alone: an ExtraData has all that came in it, and may become four times as long
        raise WireError(f"not msgpack: {type(error).__name__}") from error
    version = body[0] if isinstance(body, list) and body else None
    if type(version) is not int:  # not shown: it may be nested so deep that this would end us
        raise WireError(f"no protocol version where {PROTOCOL} is spoken")
    if version != PROTOCOL:
        raise WireError(f"protocol version {version} where {PROTOCOL} is spoken")
    return frame[0], body
