"""The messages between our processes, and that rubbish costs a frame and never a process."""

from __future__ import annotations

import math
import typing
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm import wire
from farm.errors import WireError
from farm.slot import MAX_JOBS

INTS = st.integers(-(2**63), 2**64 - 1)
VALUES = st.recursive(
    st.none() | st.booleans() | INTS | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
OF_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    int: INTS,
    float: st.floats(0, 1e6),  # all are durations and shares
    str: st.text(),
    bool: st.booleans(),
    Any: VALUES,
    dict[str, Any]: st.dictionaries(st.text(), VALUES, max_size=4),
    list[int]: st.lists(INTS),
    list[tuple[int, str]]: st.lists(st.tuples(INTS, st.text())),
}
KINDS = typing.get_args(wire.Message)


A_BATCH = st.lists(INTS, max_size=MAX_JOBS)  # no worker claims or bounces more together
STATES = ("joining", "loading", "working", "draining", "left", "idle", "busy")
NARROWER: dict[type[Any], dict[str, Any]] = {
    wire.Claim: {"job_ids": A_BATCH, "tickets": A_BATCH},
    wire.Bounce: {"job_ids": A_BATCH, "tickets": A_BATCH},
    wire.Heartbeat: {"state": st.sampled_from(STATES)},
}


def any_of(cls: type[Any]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(cls)
    wide = {name: OF_TYPE[hint] for name, hint in hints.items() if hint in OF_TYPE}
    return st.builds(cls, **wide | NARROWER.get(cls, {}))


MESSAGES = st.sampled_from(KINDS).flatmap(any_of)
CLAIM = wire.Claim(7, [1, 2])
RESULT = wire.Result(
    7, 1, "ok", {"keypoints_mm": [1.0]}, "", {"HeadId": "E0"}, "1.0", "h", 0.001, 0.002
)


def frame(kind: int, *body: Any) -> bytes:
    return bytes([kind]) + msgpack.packb([wire.PROTOCOL, *body])


def refused(*frames: bytes) -> str:
    with pytest.raises(WireError) as caught:
        wire.decode(list(frames))
    return str(caught.value)


# ---- messages ----------------------------------------------------------------------------------


@given(MESSAGES)
def test_every_message_arrives_as_it_was_sent(message: wire.Message) -> None:
    assert wire.decode([wire.encode(message)]) == message


def test_the_confidence_and_the_hash_of_a_model_cross_unchanged() -> None:
    # prevents: a deviation that is rounded or lost between model and broker, or version and hash
    # that change places
    value = {
        "keypoints_mm": [1.0, 2.5],
        "sigma_mm": [0.0611, 0.1],
        "quality": 0.98,
        "tip_mm": [1, 2],
    }
    result = wire.Result(7, 1, "ok", value, "", {}, "net-1", "3f9a", 0.0, 0.0)
    arrived = wire.decode([wire.encode(result)])
    assert isinstance(arrived, wire.Result)
    assert arrived.value == value
    assert (arrived.model_version, arrived.model_hash) == ("net-1", "3f9a")


def test_every_kind_has_a_number_of_its_own() -> None:
    assert len({wire.kind_of(cls) for cls in KINDS} | {wire.JOBS_KIND}) == len(KINDS) + 1


def test_a_message_with_extra_frames_is_refused() -> None:
    assert "2 frames" in refused(wire.encode(CLAIM), b"more")
    assert "0 frames" in refused()


def test_a_message_of_another_version_is_refused_with_both_versions() -> None:
    # after an update a worker of the old version still runs
    other = bytes([wire.kind_of(wire.Claim)]) + msgpack.packb([wire.PROTOCOL + 1, 7, [1]])
    assert refused(other) == f"protocol version {wire.PROTOCOL + 1} where {wire.PROTOCOL} is spoken"


@pytest.mark.parametrize("version", [True, 1.0, None, "1", []])
def test_what_only_looks_like_the_version_is_refused(version: Any) -> None:
    refused(bytes([wire.kind_of(wire.Claim)]) + msgpack.packb([version, 7, [1]]))


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x93\x01", msgpack.packb(5), msgpack.packb({})])
def test_a_body_that_is_no_list_is_refused(body: bytes) -> None:
    refused(bytes([wire.kind_of(wire.Claim)]) + body)


def test_an_empty_frame_and_an_unknown_kind_are_refused() -> None:
    assert "0 bytes" in refused(b"")
    assert "kind 250" in refused(frame(250))


def test_the_jobs_kind_is_no_message_of_the_other_sockets() -> None:
    refused(wire.encode_jobs(wire.Jobs(()))[0])


@pytest.mark.parametrize("body", [(7,), (7, [1]), (7, [1], [2], 3)])
def test_the_number_of_fields_must_fit(body: tuple[Any, ...]) -> None:
    assert "Claim with" in refused(frame(wire.kind_of(wire.Claim), *body))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (wire.kind_of(wire.Claim), (True, [1], [2])),  # a bool is no worker id
        (wire.kind_of(wire.Claim), (7.0, [1], [2])),
        (wire.kind_of(wire.Claim), (None, [1], [2])),
        (wire.kind_of(wire.Claim), (7, [True], [2])),
        (wire.kind_of(wire.Claim), (7, ["1"], [2])),
        (wire.kind_of(wire.Claim), (7, "1", [2])),
        (wire.kind_of(wire.Claim), (7, {"1": 1}, [2])),
        (wire.kind_of(wire.Claim), (7, [1], [True])),
        (wire.kind_of(wire.Claim), (7, [1], ["2"])),
        (wire.kind_of(wire.Bye), (7, b"reason")),
        (wire.kind_of(wire.Orders), (1, [], "", False, "")),  # an int is no bool
        (wire.kind_of(wire.Fetch), (b"name", 0)),
        (wire.kind_of(wire.Piece), ("text",)),
        (wire.kind_of(wire.Ready), (7, "1", "h", True, {})),
        (wire.kind_of(wire.Welcome), (7, "j", "r", [], "h", "", {}, {}, 0)),
        (wire.kind_of(wire.SupervisorReport), ([1], [], {}, {}, False)),
        (wire.kind_of(wire.SupervisorReport), ([[1]], [], {}, {}, False)),
        (wire.kind_of(wire.SupervisorReport), ([["1", "killed"]], [], {}, {}, False)),
        (wire.kind_of(wire.SupervisorReport), ([], [[1, "killed", 2]], {}, {}, False)),
        (wire.kind_of(wire.SupervisorReport), ([], [], ["ready"], {}, False)),
        (wire.kind_of(wire.SupervisorReport), ([], [], {}, {}, 1)),
        (wire.kind_of(wire.SupervisorOrders), ([1], [[True, "why"]], -1, False, "", "")),
    ],
)
def test_a_field_of_the_wrong_type_is_refused_before_anybody_uses_it(
    kind: int, body: tuple[Any, ...]
) -> None:
    assert "can't be" in refused(frame(kind, *body))


def test_a_whole_number_is_a_fine_duration() -> None:
    made = wire.decode([frame(wire.kind_of(wire.Ready), 7, "1", "h", 3, {})])
    assert made == wire.Ready(7, "1", "h", 3, {})


@pytest.mark.parametrize(
    "bomb",
    [
        b"\xdd\xff\xff\xff\xff",  # an array of 4 billion
        b"\xdf\xff\xff\xff\xff",  # a map of 4 billion
        b"\xc6\xff\xff\xff\xff",  # 4 GB of bytes
        b"\xdb\xff\xff\xff\xff",  # 4 GB of text
        b"\x91" * 100_000,  # lists in lists
        b"\xc7\x03\x05abc",  # an extension type
        msgpack.packb(msgpack.Timestamp(1)),
        b"\xdc\xff\xff" + b"\x80" * 65_535 + b"\x80",  # more than one object
        b"\x81\x01\x02",  # a key that is no text
        b"\x81\x90\x02",  # a key that can't even be hashed
        b"\x81\xc4\x01k\x02",  # a key of bytes
        b"\xa2\xff\xfe",  # text that is not UTF-8
    ],
)
def test_msgpack_bombs_and_rubbish_are_refused(bomb: bytes) -> None:
    refused(bytes([wire.kind_of(wire.StatsReply)]) + b"\x92\x01" + bomb)
    refused(bytes([wire.kind_of(wire.StatsReply)]) + bomb)


@pytest.mark.parametrize("first", [b"\x91" * 1000 + b"\xc0", b"\xda\xff\xff" + b"x" * 65_535])
def test_what_stands_before_rubbish_is_not_told(first: bytes) -> None:
    # prevents: a line in the log as long as the frame, and an error of its own where lists are
    # nested so deeply that their text can't be made
    assert len(refused(b"\x21" + first + b"\x00")) < 200


def test_a_head_beyond_the_limit_is_refused_unread() -> None:
    # a megabyte of empty maps is 64 MB in memory; it can't be more
    assert "a head of" in refused(b"\x10" + b"\x80" * wire.MAX_HEAD_BYTES)


def test_an_array_beyond_the_limit_is_refused() -> None:
    items = [0] * (wire.MAX_ITEMS + 1)
    assert "not msgpack" in refused(frame(wire.kind_of(wire.Claim), 7, items))


@settings(max_examples=500)
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_decoding_any_bytes_gives_a_message_or_a_wire_error(frames: list[bytes]) -> None:
    for decode in (wire.decode, wire.decode_jobs):
        try:
            decode(frames)
        except WireError:
            continue


@settings(max_examples=500)
@given(MESSAGES.map(wire.encode), st.data())
def test_decoding_a_damaged_message_gives_a_message_or_a_wire_error(
    sent: bytes, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(sent) - 1))
    damaged = sent[:at] + data.draw(st.binary(max_size=3)) + sent[at + 1 :]
    try:
        wire.decode([damaged])
    except WireError:
        return


# ---- a model's answer is a stranger's data ------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        2**64,
        {1: "an int as key"},  # msgpack packs it, and the broker would refuse it
        {("a",): 1},
        {b"bytes": 1},  # no JSON could be made of it
        [0] * (wire.MAX_ITEMS + 1),
        "x" * (wire.MAX_HEAD_BYTES + 1),
        "\ud800",
        msgpack.Timestamp(1),
    ],
)
def test_an_answer_that_the_broker_would_refuse_fails_at_the_worker(value: Any) -> None:
    # refused by the broker, it would be missing there until the job's deadline kills the worker
    with pytest.raises(WireError):
        wire.encode(wire.Result(7, 1, "ok", value, "", {}, "1.0", "h", 0.0, 0.0))


def test_a_model_hash_that_is_no_text_fails_at_the_worker() -> None:
    with pytest.raises(WireError, match="model_hash"):
        wire.encode(wire.Result(7, 1, "ok", None, "", {}, "1", 3, 0.0, 0.0))  # type: ignore[arg-type]


def test_an_answer_that_contains_itself_fails_at_the_worker() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(WireError):
        wire.encode(wire.Result(7, 1, "ok", value, "", {}, "1.0", "h", 0.0, 0.0))


def test_a_model_version_that_is_no_text_fails_at_the_worker() -> None:
    with pytest.raises(WireError, match="model_version"):
        wire.encode(wire.Result(7, 1, "ok", None, "", {}, 3, "h", 0.0, 0.0))  # type: ignore[arg-type]


# ---- jobs --------------------------------------------------------------------------------------

JOBS = st.lists(
    st.builds(
        wire.Job,
        job_id=INTS,
        source=st.text(),
        part_id=st.text(),
        attempt=st.integers(1, 9),
        parts=st.dictionaries(st.text(), st.binary(), max_size=3),
    ),
    max_size=4,
).map(lambda jobs: wire.Jobs(tuple(jobs)))


@given(JOBS)
def test_jobs_arrive_with_every_byte_of_their_parts(jobs: wire.Jobs) -> None:
    assert wire.decode_jobs(wire.encode_jobs(jobs)) == jobs


def test_parts_travel_untouched_beside_the_head() -> None:
    parts = {"result": b"\x00\xff", "trace": b"y" * 1000}
    frames = wire.encode_jobs(wire.Jobs((wire.Job(1, "b/t", "7", 1, parts),)))
    assert frames[1:] == list(parts.values())


def test_parts_may_be_larger_than_any_head() -> None:
    big = wire.Jobs((wire.Job(1, "b/t", "7", 1, {"trace": b"y" * (wire.MAX_HEAD_BYTES + 1)}),))
    assert wire.decode_jobs(wire.encode_jobs(big)) == big


def test_more_frames_than_a_message_may_have_are_refused_at_both_ends() -> None:
    jobs = [wire.Job(n, "b/t", "7", 1, {"trace": b""}) for n in range(wire.MAX_FRAMES)]
    with pytest.raises(WireError, match="at most"):
        wire.encode_jobs(wire.Jobs(tuple(jobs)))
    with pytest.raises(WireError, match="frames in one"):
        wire.decode_jobs([b"x"] * (wire.MAX_FRAMES + 1))


def jobs_frames(*heads: Any, parts: int = 0) -> list[bytes]:
    return [frame(wire.JOBS_KIND, list(heads), False), *([b"part"] * parts)]


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [wire.encode(CLAIM)],
        [frame(wire.JOBS_KIND)],
        [frame(wire.JOBS_KIND, 5)],
        [frame(wire.JOBS_KIND, [])],  # as an older broker has it
        [frame(wire.JOBS_KIND, [], 1)],
        jobs_frames(5),
        jobs_frames([1, "b/t", "7", 1, []]),  # no ticket
        jobs_frames([1, "b/t", "7", 1, [], "0"]),
        jobs_frames([True, "b/t", "7", 1, [], 0]),
        jobs_frames(["1", "b/t", "7", 1, [], 0]),
        jobs_frames([1, None, "7", 1, [], 0]),
        jobs_frames([1, "b/t", None, 1, [], 0]),
        jobs_frames([1, "b/t", "7", "1", [], 0]),
        jobs_frames([1, "b/t", "7", 1, "ab", 0], parts=2),  # letters are no kinds
        jobs_frames([1, "b/t", "7", 1, [1], 0], parts=1),
        jobs_frames([1, "b/t", "7", 1, ["trace"], 0]),  # a part lacks
        jobs_frames([1, "b/t", "7", 1, ["trace"], 0], parts=2),  # a part too many
        jobs_frames([1, "b/t", "7", 1, ["trace", "trace"], 0], parts=2),  # one would be lost
    ],
)
def test_malformed_jobs_are_refused(frames: list[bytes]) -> None:
    with pytest.raises(WireError):
        wire.decode_jobs(frames)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -0.001, 1e12])
@pytest.mark.parametrize("field", ["read_s", "infer_s", "demand"])
def test_times_that_are_none_are_refused(field: str, odd: float) -> None:
    """A worker's NaN from which the broker computes how many jobs to send, and ends."""
    sent = frame(wire.kind_of(wire.Result), *RESULT._replace(**{field: odd}))
    with pytest.raises(WireError, match="times that are none"):
        wire.decode([sent])
