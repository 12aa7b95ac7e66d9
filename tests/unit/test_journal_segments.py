"""Segment files: what was committed can be read, and what could not be written never was."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.errors import JournalError
from farm.journal import segments
from farm.journal.segments import (
    MAX_BUFFERS,
    MAX_OPEN_FILES,
    Place,
    SegmentReader,
    SegmentWriter,
    numbers,
    path_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def make_writer(
    directory: Path, *, segment_bytes: int = 1000, is_synced: bool = False
) -> SegmentWriter:
    return SegmentWriter(directory, segment_bytes=segment_bytes, is_synced=is_synced)


def append(writer: SegmentWriter, *payloads: bytes) -> list[Place]:
    """Write and commit; where each lies."""
    places = writer.append(payloads)
    writer.commit()
    return [
        Place(*place, len(payload), zlib.crc32(payload))
        for place, payload in zip(places, payloads, strict=True)
    ]


def read(directory: Path, places: Sequence[Place]) -> list[bytes]:
    reader = SegmentReader(directory)
    try:
        return [reader.read(place) for place in places]
    finally:
        reader.close()


# ---- what is written can be read -----------------------------------------------------------------


def test_payloads_lie_one_after_the_other(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    places = append(writer, b"one", b"", b"three")
    places += append(writer, b"four")
    assert [(p.segment, p.position) for p in places] == [(1, 0), (1, 3), (1, 3), (1, 8)]
    assert read(tmp_path, places) == [b"one", b"", b"three", b"four"]
    assert writer.append([]) == []


def test_more_payloads_than_one_write_takes_are_all_there(tmp_path: Path) -> None:
    # prevents: EINVAL from the kernel, which takes 1024 buffers at once
    payloads = [f"payload {i}".encode() for i in range(2 * MAX_BUFFERS + 1)]
    places = append(make_writer(tmp_path, segment_bytes=10**6), *payloads)
    assert read(tmp_path, places) == payloads


def test_a_full_segment_is_followed_by_a_new_one(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, segment_bytes=1000)
    places = append(writer, b"a" * 999) + append(writer, b"b" * 999) + append(writer, b"c")
    assert [p.segment for p in places] == [1, 1, 2]  # a batch is never cut
    assert writer.number == 2
    assert numbers(tmp_path) == [1, 2]
    assert read(tmp_path, places) == [b"a" * 999, b"b" * 999, b"c"]


def test_no_writer_goes_on_in_the_file_of_another_life(tmp_path: Path) -> None:
    # prevents: bytes behind an end that a crash has left anywhere
    first = make_writer(tmp_path)
    kept = append(first, b"kept")
    first.append([b"never committed"])
    first.close()
    second = make_writer(tmp_path)
    places = append(second, b"new")
    assert (places[0].segment, places[0].position) == (2, 0)
    assert read(tmp_path, kept + places) == [b"kept", b"new"]


def test_only_segments_are_taken_for_segments(tmp_path: Path) -> None:
    for name in ("00000003.seg", "00000012.seg", "notes.txt", "x.seg", "-1.seg"):
        (tmp_path / name).touch()
    assert numbers(tmp_path) == [3, 12]
    assert make_writer(tmp_path).number == 12


def test_the_reader_keeps_few_files_open(tmp_path: Path) -> None:
    # prevents: a start that runs out of descriptors over a journal of many segments
    writer = make_writer(tmp_path, segment_bytes=1)
    payloads = [f"segment {i}".encode() for i in range(2 * MAX_OPEN_FILES)]
    places = [append(writer, payload)[0] for payload in payloads]
    reader = SegmentReader(tmp_path)
    for _ in range(2):
        assert [reader.read(place) for place in places] == payloads
    assert len(reader._open) == MAX_OPEN_FILES
    reader.close()
    assert not reader._open


# ---- what could not be written never was ---------------------------------------------------------


def test_what_was_rolled_back_is_written_over(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    kept = append(writer, b"kept")
    writer.append([b"half a batch"])
    writer.roll_back()
    assert path_of(tmp_path, 1).read_bytes() == b"kept"
    places = append(writer, b"new")
    assert places[0].position == 4
    assert read(tmp_path, kept + places) == [b"kept", b"new"]


def test_a_short_write_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # prevents: a full disk that takes a part, says nothing, and half a message that counts
    writer = make_writer(tmp_path, segment_bytes=10**6)
    kept = append(writer, b"kept")
    real = os.pwritev
    calls = []

    def takes_less(descriptor: int, buffers: Sequence[bytes], position: int) -> int:
        calls.append(position)
        if len(calls) == 2:  # the first piece of the batch is taken whole, of the second a byte
            return real(descriptor, [buffers[0][:1]], position)
        return real(descriptor, buffers, position)

    monkeypatch.setattr(os, "pwritev", takes_less)
    batch = [b"payload"] * (MAX_BUFFERS + 1)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        writer.append(batch)
    writer.roll_back()
    assert path_of(tmp_path, 1).read_bytes() == b"kept"
    places = append(writer, *batch)
    assert read(tmp_path, kept + places) == [b"kept", *batch]


FULL_DISK = """
import resource, sys
from pathlib import Path
from farm.journal.segments import Place, SegmentReader, SegmentWriter
import zlib

directory = Path(sys.argv[1])
writer = SegmentWriter(directory, segment_bytes=10**6, is_synced=False)
first = writer.append([b"a" * 3000])
writer.commit()
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
for _ in range(3):
    try:
        writer.append([b"b" * 3000])
    except OSError:
        writer.roll_back()
    else:
        sys.exit("the limit did not hold")
assert (directory / "00000001.seg").stat().st_size == 3000
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
second = writer.append([b"b" * 3000])
writer.commit()
reader = SegmentReader(directory)
for (segment, position), payload in zip(first + second, (b"a" * 3000, b"b" * 3000)):
    assert reader.read(Place(segment, position, 3000, zlib.crc32(payload))) == payload
"""


def test_a_file_that_may_not_grow_takes_all_of_it_later(tmp_path: Path) -> None:
    # the kernel's own refusal, after a part: a limit on the size of files behaves like a full disk
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_after_a_failed_sync_the_file_is_not_trusted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # prevents: the kernel drops the pages, calls the next sync a success, and the bytes are gone
    writer = make_writer(tmp_path, is_synced=True)
    kept = append(writer, b"kept")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", _fails)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            writer.append([b"lost"])
        writer.roll_back()
    places = append(writer, b"new")
    assert places[0].segment == 2
    assert read(tmp_path, kept + places) == [b"kept", b"new"]


def test_a_file_whose_name_may_be_lost_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # prevents: safe bytes in a file that no folder names after a power cut
    writer = make_writer(tmp_path, is_synced=True)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _fails)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            writer.append([b"lost"])
        writer.roll_back()
    assert append(writer, b"new")[0].segment == 2


def test_only_power_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # prevents: ten times fewer messages a second for a guarantee that nobody asked for
    monkeypatch.setattr(os, "fdatasync", _fails)
    monkeypatch.setattr(os, "fsync", _fails)
    append(make_writer(tmp_path, is_synced=False), b"payload")


def _fails(_descriptor: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@given(
    st.lists(st.tuples(st.lists(st.binary(max_size=50), max_size=5), st.booleans()), max_size=12),
    st.integers(1, 120),
)
def test_any_mixture_of_commits_and_failures_keeps_what_was_committed(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[tuple[list[bytes], bool]],
    segment_bytes: int,
) -> None:
    directory = tmp_path_factory.mktemp("segments")
    writer = make_writer(directory, segment_bytes=segment_bytes)
    places: list[Place] = []
    payloads: list[bytes] = []
    for batch, succeeds in batches:
        if succeeds:
            places += append(writer, *batch)
            payloads += batch
        else:
            writer.append(batch)
            writer.roll_back()
    writer.close()
    assert read(directory, places) == payloads


# ---- damage --------------------------------------------------------------------------------------


def test_a_flipped_bit_is_found_and_its_place_is_named(tmp_path: Path) -> None:
    # prevents: depths computed from a trace that rotted on the disk
    places = append(make_writer(tmp_path), b"first", b"second")
    raw = bytearray(path_of(tmp_path, 1).read_bytes())
    raw[6] ^= 1
    path_of(tmp_path, 1).write_bytes(raw)
    assert read(tmp_path, places[:1]) == [b"first"]
    with pytest.raises(JournalError, match=r"segment 1 is damaged at 5 \(6 bytes\)"):
        read(tmp_path, places[1:])


def test_a_file_that_lost_its_end_is_found(tmp_path: Path) -> None:
    places = append(make_writer(tmp_path), b"first", b"second")
    os.truncate(path_of(tmp_path, 1), 8)
    assert read(tmp_path, places[:1]) == [b"first"]
    with pytest.raises(JournalError, match="damaged"):
        read(tmp_path, places[1:])


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    places = append(make_writer(tmp_path), b"first")
    path_of(tmp_path, 1).unlink()
    with pytest.raises(JournalError, match="segment 1 can't be read: No such file"):
        read(tmp_path, places)
    assert not segments.numbers(tmp_path)
