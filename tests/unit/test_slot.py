"""The black box of a worker: what it says after the worker's death is true, or it says nothing."""

from __future__ import annotations

import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.slot import MAX_GATHERED_JOBS, MAX_JOBS, Slot, read_slot

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator
    from pathlib import Path

WORKER_ID = (7 << 32) + 5
JOB_ID = (7 << 32) + 42


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / str(WORKER_ID)


@pytest.fixture
def slot(path: Path) -> Iterator[Slot]:
    made = Slot.create(path, WORKER_ID)
    yield made
    made.close()


def test_a_new_slot_is_idle_small_and_for_this_user_alone(slot: Slot, path: Path) -> None:
    assert read_slot(path, WORKER_ID) == frozenset()
    assert path.stat().st_size == 152
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_names_what_is_computed_until_it_is_idle_again(slot: Slot, path: Path) -> None:
    for ids in ([JOB_ID], [1, 2, 3, 4, 2**64 - 1], [JOB_ID + 1, 7]):
        slot.computing(ids)
        assert read_slot(path, WORKER_ID) == frozenset(ids)
        slot.idle()
        assert read_slot(path, WORKER_ID) == frozenset()


def test_a_new_batch_replaces_the_one_before(slot: Slot, path: Path) -> None:
    slot.computing([1, 2, 3])
    slot.computing([4])
    assert read_slot(path, WORKER_ID) == frozenset({4})


def test_a_large_slot_names_a_large_batch_and_no_larger_one(path: Path) -> None:
    """A batch of a GPU that nobody can be blamed for, since it has no room in the black box."""
    slot = Slot.create(path, WORKER_ID, room=256)
    assert path.stat().st_size == 24 + 8 * 256
    ids = list(range(JOB_ID, JOB_ID + 256))
    for count in (256, 17, 16, 1):
        slot.computing(ids[:count])
        assert read_slot(path, WORKER_ID) == frozenset(ids[:count])
    with pytest.raises(ValueError, match="1 to 256"):
        slot.computing(range(257))
    slot.close()
    data = bytearray(path.read_bytes())
    path.write_bytes(data[:-8])  # cut, or of a smaller one
    assert read_slot(path, WORKER_ID) is None
    data[24] ^= 1
    path.write_bytes(data)
    assert read_slot(path, WORKER_ID) is None


@pytest.mark.parametrize("room", [0, -1, MAX_GATHERED_JOBS + 1])
def test_room_that_no_worker_needs_is_refused(room: int, path: Path) -> None:
    """A file of any size, because another process said so."""
    with pytest.raises(ValueError, match="room"):
        Slot.create(path, WORKER_ID, room=room)
    assert not path.exists()


@pytest.mark.parametrize("ids", [[], list(range(MAX_JOBS + 1)), [-1], [2**64], ["7"]])
def test_what_it_can_not_name_is_refused_and_changes_nothing(
    slot: Slot, path: Path, ids: list[int]
) -> None:
    slot.computing([JOB_ID])
    with pytest.raises(ValueError, match="job"):
        slot.computing(ids)
    assert read_slot(path, WORKER_ID) == frozenset({JOB_ID})


def test_the_file_stays_when_it_is_closed_and_goes_when_it_is_removed(path: Path) -> None:
    slot = Slot.create(path, WORKER_ID)
    slot.computing([JOB_ID])
    slot.close()
    assert read_slot(path, WORKER_ID) == frozenset({JOB_ID})
    slot.remove()
    slot.remove()  # the broker may have done it
    assert read_slot(path, WORKER_ID) is None


def test_it_is_read_after_a_death_that_gave_no_notice(path: Path) -> None:
    # the whole point: kill -9 between two instructions
    script = (
        "import os, pathlib, signal\n"
        "from farm.slot import Slot\n"
        f"slot = Slot.create(pathlib.Path({str(path)!r}), {WORKER_ID})\n"
        f"slot.computing([{JOB_ID}])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert read_slot(path, WORKER_ID) == frozenset({JOB_ID})


def test_a_slot_of_another_incarnation_says_nothing(slot: Slot, path: Path) -> None:
    # prevents: holes blamed for the death of a worker that never had them
    assert read_slot(path, WORKER_ID + 1) is None
    slot.computing([JOB_ID])
    assert read_slot(path, WORKER_ID + 1) is None


def test_a_new_slot_in_the_place_of_an_old_one_leaves_the_old_owner_alive(
    slot: Slot, path: Path
) -> None:
    # to truncate a file that is mapped kills who has it mapped at its next mark
    second = Slot.create(path, WORKER_ID)
    slot.computing([1])
    second.computing([2])
    assert read_slot(path, WORKER_ID) == frozenset({2})
    second.close()


def test_where_there_is_no_folder_it_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Slot.create(tmp_path / "missing" / "7", 7)


def test_a_missing_slot_or_a_folder_in_its_place_says_nothing(tmp_path: Path) -> None:
    assert read_slot(tmp_path / "missing", 7) is None
    assert read_slot(tmp_path, 7) is None


@given(data=st.binary(max_size=70))
def test_rubbish_says_nothing(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "rubbish"
    path.write_bytes(data)
    assert read_slot(path, WORKER_ID) is None


@given(
    before=st.lists(st.integers(0, 2**64 - 1), max_size=MAX_JOBS),
    ids=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=MAX_JOBS),
    at=st.integers(0, 63),
    flip=st.integers(1, 255),
)
def test_one_damaged_byte_never_names_a_job_that_was_not_there(
    tmp_path_factory: pytest.TempPathFactory, before: list[int], ids: list[int], at: int, flip: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    slot = Slot.create(path, WORKER_ID)
    if before:
        slot.computing(before)
    slot.computing(ids)
    slot.close()
    data = bytearray(path.read_bytes())
    data[at] ^= flip
    path.write_bytes(data)
    found = read_slot(path, WORKER_ID)
    assert found is None or found == frozenset() or found == frozenset(ids)


class Dying:
    """A mapped file whose owner dies at its n-th write."""

    def __init__(self, mapped: mmap.mmap, writes: int) -> None:
        self.mapped = mapped
        self.writes = writes

    def __setitem__(self, where: int | slice, what: int | bytes) -> None:
        if self.writes == 0:
            raise KeyboardInterrupt
        self.writes -= 1
        self.mapped[where] = what  # type: ignore[index,assignment]


@pytest.mark.parametrize("writes", range(3))
@pytest.mark.parametrize("before", [[], [1, 2, 3]])
def test_who_dies_in_the_middle_of_a_mark_names_no_wrong_job(
    slot: Slot, path: Path, writes: int, before: list[int]
) -> None:
    # prevents: new ids under an old count, or old ids under a new one
    if before:
        slot.computing(before)
    real = slot._map
    slot._map = Dying(real, writes)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        slot.computing([8, 9])
    slot._map = real
    expected = before if writes == 0 else []  # it was not handed over before the last write
    assert read_slot(path, WORKER_ID) == frozenset(expected)


def test_a_living_workers_slot_is_read_while_it_changes(path: Path) -> None:
    # a worker that hangs or is silent is read alive, and must not be blamed for a mixture
    batches = [[n, n + 1, n + 2][: n % 3 + 1] for n in range(100)]
    script = (
        "import pathlib, sys\n"
        "from farm.slot import Slot\n"
        f"slot = Slot.create(pathlib.Path({str(path)!r}), {WORKER_ID})\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        f"    for batch in {batches}:\n"
        "        slot.computing(batch)\n"
        "        slot.idle()\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        seen = {read_slot(path, WORKER_ID) for _ in range(20_000)}
        worker.kill()
    assert seen <= {frozenset(batch) for batch in batches} | {frozenset(), None}
