"""One message over a socket, without waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import zmq

from farm.sockets import Role, open_socket, send_at_once

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Socket = zmq.Socket[bytes]


@pytest.fixture
def context() -> Iterator[zmq.Context[Socket]]:
    made: zmq.Context[Socket] = zmq.Context()
    yield made
    made.destroy(linger=0)


def received(socket: Socket) -> list[bytes]:
    assert socket.poll(5000), "nothing came"
    return socket.recv_multipart()


def test_the_frames_of_a_message_arrive_as_one_message_in_their_order(
    context: zmq.Context[Socket], tmp_path: Path
) -> None:
    """Parts of a job that are taken for messages of their own, or for those of another job."""
    endpoint = f"ipc://{tmp_path}/jobs"
    sender = open_socket(context, Role.JOBS_SENDER, endpoint)
    receiver = open_socket(context, Role.JOBS_RECEIVER, endpoint)
    assert sender.poll(5000, zmq.POLLOUT), "nobody connected"
    messages = [[b"head", b"", b"x" * 300_000], [b"alone"]]
    for frames in messages:
        send_at_once(sender, frames)
    assert [received(receiver) for _ in messages] == messages


def test_what_nobody_can_take_is_refused_as_a_whole(
    context: zmq.Context[Socket], tmp_path: Path
) -> None:
    """Frames of a job that was held back, in front of the next one; a loop that waits."""
    endpoint = f"ipc://{tmp_path}/jobs"
    sender = open_socket(context, Role.JOBS_SENDER, endpoint)
    with pytest.raises(zmq.Again):
        send_at_once(sender, [b"head", b"part"])
    receiver = open_socket(context, Role.JOBS_RECEIVER, endpoint)
    assert sender.poll(5000, zmq.POLLOUT), "nobody connected"
    send_at_once(sender, [b"next", b"part"])
    assert received(receiver) == [b"next", b"part"]
