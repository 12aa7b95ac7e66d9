"""What waits for its partner at a stop is there at the next start, once, and whole."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from farm.broker import carryover
from farm.broker.buffer import Part

if TYPE_CHECKING:
    from pathlib import Path

PARTS = [
    Part("result", "box/tool", "440", b'{"raw": "bytes\xff"}', 12.0),
    Part("heads", "box/tool", None, b"", 13.0),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / carryover.FILE_NAME


def test_parts_come_back_with_their_window_beginning_anew(path: Path) -> None:
    carryover.save(path, PARTS)
    assert carryover.take(path) == [
        Part("result", "box/tool", "440", b'{"raw": "bytes\xff"}', 0.0),
        Part("heads", "box/tool", None, b"", 0.0),
    ]


def test_a_second_start_finds_nothing(path: Path) -> None:
    # it would pair the same Result with the Trace of a later hole of that id
    carryover.save(path, PARTS)
    carryover.take(path)
    assert carryover.take(path) == []


def test_nothing_to_keep_leaves_no_file_of_a_former_stop(path: Path) -> None:
    carryover.save(path, PARTS)
    carryover.save(path, [])
    assert not path.exists()


@pytest.mark.parametrize("damage", [b"", b"\xc1", b"\x92\x02\x90", b"\x92\x01\x91\x91\x01"])
def test_a_damaged_file_is_said_and_set_aside(path: Path, damage: bytes) -> None:
    path.write_bytes(damage)
    with pytest.raises(ValueError, match=r"carryover\.bad"):
        carryover.take(path)
    assert not path.exists()
    assert path.with_suffix(".bad").read_bytes() == damage


def test_a_full_disk_keeps_what_was_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carryover.save(path, PARTS)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        carryover.save(path, PARTS[:1])
    assert [file.name for file in path.parent.iterdir()] == [carryover.FILE_NAME]
    assert len(carryover.take(path)) == 2
