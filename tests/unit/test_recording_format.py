"""The file of a recording: what is written is read again, and nothing else is taken for it."""

from __future__ import annotations

import errno
import os
import struct
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordings import S, hole, write

from farm.errors import RecordingError
from farm.recording import block, header, record
from farm.recording.block import BLOCK_HEAD_BYTES, SYNC
from farm.recording.header import MAGIC
from farm.recording.reader import RecordingReader, is_recording
from farm.recording.record import Gap, Message, Note, UnfitError
from farm.recording.writer import RecordingWriter

if TYPE_CHECKING:
    from pathlib import Path

RECORDS = [
    Note(1 * S, "begun"),
    Message(2 * S, "a/ü", b"\x00payload", 0, retain=True),
    Message(2 * S + 1, "a/b", b"", 2),
    Gap(3 * S, 5 * S, "lost"),
    Message(6 * S, "a/answer", b"[1]", 1, is_answer=True),
]


def read(path: Path, **options: bool) -> list[Message | Gap | Note]:
    with RecordingReader(path, **options) as reader:
        return list(reader.records())


def names_the_file(path: Path) -> bool:
    """Whether it can be read, or the error says of which file; any other error passes."""
    try:
        read(path)
    except RecordingError as error:
        return str(path) in str(error)
    return True


def blocks(path: Path) -> list[int]:
    """Where each block begins."""
    data = path.read_bytes()
    found, at = [], data.find(SYNC)
    while at >= 0:
        found.append(at)
        at = data.find(SYNC, at + 1)
    return found


def two_blocks(path: Path) -> None:
    with RecordingWriter(path, now_ns=0) as writer:
        for each in RECORDS[:3]:
            writer.append(each)
        writer.flush()
        for each in RECORDS[3:]:
            writer.append(each)


@pytest.mark.parametrize("level", [0, 1, 6])
def test_what_was_written_is_read_again(tmp_path, level):
    """Prevents a field that a recording loses, at any compression."""
    write(tmp_path / "r", RECORDS, level=level)
    assert read(tmp_path / "r") == RECORDS
    with RecordingReader(tmp_path / "r") as reader:
        assert reader.header.created_ns == 50 * S
        assert not reader.header.is_anonymous
        assert list(reader.records()) == list(reader.records()) == RECORDS
        assert reader.torn is None


def test_the_layout_is_the_documented_one(tmp_path):
    """Prevents a format that drifts from docs/recordings.md: another program must read it so."""
    write(tmp_path / "r", RECORDS[1:2])
    data = (tmp_path / "r").read_bytes()
    assert data[:10] == b"\x8fFARMREC\r\n"
    version, body_bytes = struct.unpack_from("<HI", data, 10)
    assert version == 1
    assert msgpack.unpackb(data[16 : 16 + body_bytes])["created_ns"] == 50 * S
    end = 16 + body_bytes
    assert struct.unpack_from("<I", data, end) == (zlib.crc32(data[:end]),)
    at = end + 4
    sync, codec, reserved, count, stored, raw, crc, head_crc = struct.unpack_from(
        "<4sBBHIIII", data, at
    )
    assert (sync, codec, reserved, count) == (b"FBLK", 1, 0, 1)
    assert head_crc == zlib.crc32(data[at : at + 20])
    body = data[at + 24 :]
    assert (len(body), zlib.crc32(body)) == (stored, crc)
    content = zlib.decompress(body)
    assert len(content) == raw
    length, record_crc = struct.unpack_from("<II", content)
    assert (length, record_crc) == (len(content) - 8, zlib.crc32(content[8:]))
    assert msgpack.unpackb(content[8:]) == [1, 2 * S, "a/ü", b"\x00payload", 0b100]


def test_only_its_owner_may_read_a_recording(tmp_path):
    """Prevents traces, which are confidential, that anybody on the machine can read."""
    write(tmp_path / "r", RECORDS)
    assert (tmp_path / "r").stat().st_mode & 0o777 == 0o600


def test_simulated_messages_become_much_smaller(tmp_path):
    """Prevents blocks so small, or so badly packed, that a day does not fit on a disk."""
    from farm.simulation.drilled import SAMPLE_RECIPES, series  # noqa: PLC0415 - takes a second

    made = [m for each in series(SAMPLE_RECIPES, count=6, seed=3) for _, m in each.messages.parts()]
    write(tmp_path / "r", [Message(at, "OPCPUBSUB/a/b", each) for at, each in enumerate(made)])
    assert (tmp_path / "r").stat().st_size < sum(map(len, made)) / 5


@pytest.mark.parametrize("cut", [1, 10, BLOCK_HEAD_BYTES - 1, BLOCK_HEAD_BYTES, -1])
def test_a_torn_end_is_cut_and_told_on_reading_and_on_appending(tmp_path, cut):
    """Prevents a recording that a kill -9 makes unreadable, or that goes on behind rubbish."""
    path = tmp_path / "r"
    two_blocks(path)
    whole, start = path.read_bytes(), blocks(path)[1]
    end = start + cut if cut > 0 else len(whole) - 1
    path.write_bytes(whole[:end])
    with RecordingReader(path) as reader:
        assert list(reader.records()) == RECORDS[:3]
        assert reader.torn == (start, end - start)
        assert f"{end - start} bytes" in str(reader.torn)
    with RecordingWriter(path, now_ns=9 * S) as writer:
        assert writer.torn == (start, end - start)
        assert not writer.is_new
        writer.append(RECORDS[4])
    assert read(path) == [*RECORDS[:3], RECORDS[4]]


def test_what_a_power_cut_leaves_at_the_end_is_torn_too(tmp_path):
    """Prevents a file whose last pages were never written from being called damaged."""
    path = tmp_path / "r"
    two_blocks(path)
    whole, start = path.read_bytes(), blocks(path)[1]
    for rest in (bytes(500), whole[start:-4] + bytes(4)):
        path.write_bytes(whole[:start] + rest)
        with RecordingReader(path) as reader:
            assert list(reader.records()) == RECORDS[:3]
            assert reader.torn is not None
            assert reader.torn.offset == start


def test_damage_in_the_middle_is_an_error_and_not_an_end(tmp_path):
    """Prevents half of a recording from silently standing for all of it."""
    path = tmp_path / "r"
    two_blocks(path)
    start = blocks(path)[0]
    for offset in (start, start + 9, start + BLOCK_HEAD_BYTES + 2):
        data = bytearray(path.read_bytes())
        data[offset] ^= 0x10
        broken = tmp_path / f"broken-{offset}"
        broken.write_bytes(data)
        with pytest.raises(RecordingError, match=rf"damaged at byte {start}: .*--from"):
            read(broken)
        with pytest.raises(RecordingError, match=r"Nothing is added to a damaged recording"):
            RecordingWriter(broken, now_ns=0)
        with RecordingReader(broken, is_patient=True) as reader:
            assert list(reader.records()) == []
            assert f"damaged at byte {start}" in reader.damage


def test_a_patient_reader_gives_what_stands_before_the_damage(tmp_path):
    """Prevents the loss of a good day for one bad sector."""
    path = tmp_path / "r"
    two_blocks(path)
    data = bytearray(path.read_bytes())
    data[blocks(path)[1]] ^= 0xFF
    path.write_bytes(data)
    with RecordingReader(path, is_patient=True) as reader:
        assert list(reader.records()) == RECORDS[:3]
        assert "no block begins there" in reader.damage


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no recording"),
        (b"{}", "no recording"),
        (MAGIC.replace(b"\r\n", b"\n") + bytes(50), "no recording"),
        (MAGIC, "ends within its header"),
        (MAGIC + struct.pack("<HI", 2, 0), "version 2"),
        (MAGIC + struct.pack("<HI", 1, 2**31), "header is damaged"),
        (MAGIC + struct.pack("<HI", 1, 1) + b"\xc0" + bytes(4), "header is damaged"),
    ],
)
def test_what_is_no_recording_is_refused_with_the_reason(tmp_path, data, words):
    """Prevents a file of another kind from being read, or worse, written over."""
    path = tmp_path / "r"
    path.write_bytes(data)
    with pytest.raises(RecordingError, match=words):
        RecordingReader(path)
    if data:
        with pytest.raises(RecordingError, match=words):
            RecordingWriter(path, now_ns=0)
        assert path.read_bytes() == data
    assert is_recording(path) == data.startswith(MAGIC)


def test_a_block_that_unpacks_to_more_than_it_says_is_refused(tmp_path):
    """Prevents a small file that fills the memory."""
    path = tmp_path / "r"
    write(path, RECORDS)
    bomb = zlib.compress(bytes(10_000_000))
    head = struct.pack("<4sBBHIII", SYNC, 1, 0, 1, len(bomb), 100, zlib.crc32(bomb))
    path.write_bytes(path.read_bytes() + head + struct.pack("<I", zlib.crc32(head)) + bomb)
    with pytest.raises(RecordingError, match="not as long as it says"):
        read(path)


def test_records_of_a_later_farm_are_skipped_and_counted(tmp_path):
    """Prevents a recording of tomorrow that today's farm can't read at all."""
    path = tmp_path / "r"
    write(path, RECORDS)
    body = msgpack.packb([99, "something new"])
    strange = struct.pack("<II", len(body), zlib.crc32(body)) + body
    path.write_bytes(path.read_bytes() + block.pack_block([strange]))
    with RecordingReader(path) as reader:
        assert list(reader.records()) == RECORDS
        assert reader.unknown == 1


def test_two_recorders_do_not_write_one_file(tmp_path):
    """Prevents blocks that are written over each other."""
    first = RecordingWriter(tmp_path / "r", now_ns=0)
    with pytest.raises(RecordingError, match="another recorder"):
        RecordingWriter(tmp_path / "r", now_ns=0)
    first.close()
    first.close()
    RecordingWriter(tmp_path / "r", now_ns=0).close()


def test_real_names_are_not_added_to_an_anonymous_recording(tmp_path):
    """Prevents a file that is called anonymous and is not."""
    write(tmp_path / "r", RECORDS, is_anonymous=True)
    with pytest.raises(RecordingError, match="is anonymous"):
        RecordingWriter(tmp_path / "r", now_ns=0)
    RecordingWriter(tmp_path / "r", now_ns=0, is_anonymous=True).close()


def test_a_full_disk_is_told_with_what_was_kept_and_the_file_is_whole(tmp_path, monkeypatch):
    """Prevents a recording that a full disk leaves torn, or an operator who doesn't know of it."""
    path = tmp_path / "r"
    writer = RecordingWriter(path, now_ns=0)
    writer.append(RECORDS[0])
    writer.flush()
    real = os.pwrite

    def half_then_full(descriptor: int, data: memoryview, at: int) -> int:
        if len(data) > 20:
            return real(descriptor, data[:20], at)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", half_then_full)
    writer.append(RECORDS[1])
    with pytest.raises(RecordingError, match=r"No space left .* 1 records .* make room"):
        writer.flush()
    writer.close()
    monkeypatch.undo()
    with RecordingReader(path) as reader:
        assert list(reader.records()) == RECORDS[:1]
        assert reader.torn is None


def test_a_message_that_could_not_be_read_again_is_not_kept(tmp_path, monkeypatch):
    """Prevents a recorder that writes what its own reader refuses."""
    monkeypatch.setattr(record, "MAX_PAYLOAD_BYTES", 100)
    with RecordingWriter(tmp_path / "r", now_ns=0) as writer:
        with pytest.raises(UnfitError, match="101 bytes"):
            writer.append(Message(0, "t", bytes(101)))
        with pytest.raises(UnfitError, match="65536"):
            writer.append(Message(0, "t" * 65_536, b""))
        with pytest.raises(UnfitError, match="UTF-8"):
            writer.append(Message(0, "\ud800", b""))
        writer.append(Message(0, "t", bytes(100)))
    assert read(tmp_path / "r") == [Message(0, "t", bytes(100))]


@pytest.mark.parametrize(
    ("can_go_on", "is_new", "words"),
    [(True, True, "go on with the same command"), (False, True, "remove it and do it again"),
     (False, False, "do it again into another file")],
)  # fmt: skip
def test_a_copy_that_a_full_disk_ended_is_not_to_be_gone_on_with(
    tmp_path, monkeypatch, can_go_on, is_new, words
):
    """Prevents a copy in which everything stands twice."""
    path = tmp_path / "r"
    if not is_new:
        write(path, RECORDS)
    writer = RecordingWriter(path, now_ns=0, can_go_on=can_go_on)
    writer.append(RECORDS[0])

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(RecordingError, match=f"make room, then {words}"):
            writer.flush()
    writer.close()


def test_an_empty_file_becomes_a_private_recording(tmp_path):
    """Prevents traces that anybody can read, since the file was there with its usual mode."""
    path = tmp_path / "r"
    path.touch(mode=0o644)
    write(path, RECORDS)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_in_which_nothing_stands_goes_again(tmp_path):
    """Prevents a slip whose empty file stands in the way of the right command."""
    path = tmp_path / "r"
    write(path, RECORDS[:1], removes_empty=True)
    assert not path.exists()
    path.touch()
    write(path, RECORDS[:1], removes_empty=True)
    assert read(path) == RECORDS[:1]  # somebody made it
    path.unlink()
    write(path, RECORDS[1:2], removes_empty=True)
    write(path, RECORDS[:1], removes_empty=True)
    assert read(path) == [RECORDS[1], RECORDS[0]]


@given(data=st.binary(max_size=300), has_magic=st.booleans())
def test_any_bytes_give_records_or_a_recording_error(tmp_path_factory, data, has_magic):
    """Prevents a stranger's file that ends the reader with anything but a sentence."""
    path = tmp_path_factory.mktemp("fuzz") / "r"
    path.write_bytes(MAGIC * has_magic + data)
    assert names_the_file(path)


packed_things = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats()
    | st.text(max_size=6) | st.binary(max_size=6),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)  # fmt: skip


@given(
    bodies=st.lists(packed_things.map(msgpack.packb) | st.binary(max_size=20), max_size=4),
    count=st.none() | st.integers(0, 9),
    level=st.sampled_from([0, 6]),
)
def test_any_records_with_right_checksums_give_records_or_a_recording_error(
    tmp_path_factory, bodies, count, level
):
    """Prevents the same behind checksums, which random bytes never get past."""
    path = tmp_path_factory.mktemp("fuzz") / "r"
    packed = [struct.pack("<II", len(body), zlib.crc32(body)) + body for body in bodies]
    data = bytearray(block.pack_block(packed, level=level))
    if count is not None:
        struct.pack_into("<H", data, 6, count)
        struct.pack_into("<I", data, 20, zlib.crc32(bytes(data[:20])))
    path.write_bytes(header.pack_header(header.Header(0, "fuzz")) + data)
    assert names_the_file(path)


@given(edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4),
       cut=st.none() | st.integers(0, 10_000))  # fmt: skip
def test_a_changed_recording_gives_a_begin_of_it_or_an_error(tmp_path_factory, edits, cut):
    """Prevents damage that invents messages, or changes them."""
    path = tmp_path_factory.mktemp("fuzz") / "r"
    records = hole(440)
    write(path, records)
    data = bytearray(path.read_bytes())
    for at, value in edits:
        data[at % len(data)] = value
    path.write_bytes(data[: None if cut is None else cut % len(data)])
    try:
        found = read(path)
    except RecordingError:
        return
    assert found == records[: len(found)]


@pytest.mark.parametrize(
    "body",
    [
        b"\xdd" + struct.pack(">I", 1_000_000) + b"\x90" * 1_000_000,
        b"\x92\x01\xdd" + struct.pack(">I", 1_000_000) + b"\x90" * 1_000_000,
        b"\x92\x01" + (b"\x9f" + b"\x90" * 15) * 60_000,
        b"\xdd" + struct.pack(">I", 1_000_001) + b"\x01" + b"\x90" * 1_000_000,
    ],
)
def test_a_record_of_many_small_things_takes_no_memory(body):
    """Prevents a file of 60 kB that ends whoever opens it for want of memory."""
    raw = struct.pack("<II", len(body), zlib.crc32(body)) + body
    tracemalloc.start()
    try:
        with pytest.raises(RecordingError):
            list(record.unpack_records(raw, 1))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 5 * len(body)


def test_a_record_of_a_later_farm_may_hold_anything():
    """Prevents a map in a record of tomorrow that makes the whole file unreadable."""
    body = msgpack.packb([99, {"a": [1] * 100}, [[]]])
    raw = struct.pack("<II", len(body), zlib.crc32(body)) + body
    assert list(record.unpack_records(raw, 1)) == [record.Unknown(99)]
