from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

import pytest

from farm.waker import Waker

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def waker() -> Iterator[Waker]:
    made = Waker()
    yield made
    made.close()


def is_awake(waker: Waker) -> bool:
    return bool(select.select([waker.fd], [], [], 0)[0])


def test_it_wakes_until_it_is_cleared(waker: Waker) -> None:
    assert not is_awake(waker)
    waker.wake()
    waker.wake()
    assert is_awake(waker)
    waker.clear()
    assert not is_awake(waker)
    waker.wake()
    assert is_awake(waker)


def test_clearing_what_nobody_woke_does_not_block(waker: Waker) -> None:
    waker.clear()
    assert not is_awake(waker)


def test_a_wake_up_in_the_middle_of_clearing_does_not_silence_the_later_ones(
    waker: Waker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the flag stayed up over an empty descriptor: results then waited for the poll's timeout
    read = os.eventfd_read

    def read_while_another_thread_wakes(fd: int) -> int:
        waker.wake()
        return read(fd)

    waker.wake()
    with monkeypatch.context() as patched:
        patched.setattr(os, "eventfd_read", read_while_another_thread_wakes)
        waker.clear()
    waker.wake()
    assert is_awake(waker)
