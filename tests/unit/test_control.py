"""Asking the broker, over real sockets inside this process. Every wait has an end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import zmq

from farm import wire
from farm.control import ControlClient, ask, fetch_stats
from farm.errors import FarmError, NoFarmError, StateError, WireError
from farm.sockets import Role, open_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WAIT_MS = 5000


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    made: zmq.Context = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/control"


@pytest.fixture
def serve(context: zmq.Context, endpoint: str) -> Iterator[Callable[[bytes], None]]:
    """Answers one request with the given frame, on a thread of its own."""
    server = open_socket(context, Role.CONTROL_SERVER, endpoint)
    threads: list[threading.Thread] = []

    def answer(frame: bytes) -> None:
        if server.poll(WAIT_MS):
            identity, *_ = server.recv_multipart()
            server.send_multipart([identity, b"", frame])

    def start(frame: bytes) -> None:
        threads.append(threading.Thread(target=answer, args=(frame,)))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(WAIT_MS / 1000)


def test_a_request_gets_its_reply(serve: Callable[[bytes], None], endpoint: str) -> None:
    serve(wire.encode(wire.StatsReply({"state": "HEALTHY"})))
    assert fetch_stats(endpoint, timeout_s=5.0) == {"state": "HEALTHY"}


def test_nobody_there_is_said_with_what_to_do(endpoint: str) -> None:
    with pytest.raises(NoFarmError, match="farm start"):
        ask(endpoint, wire.StatsRequest(), timeout_s=0.05)


def test_a_refusal_is_an_error_with_the_brokers_reason(
    serve: Callable[[bytes], None], endpoint: str
) -> None:
    serve(wire.encode(wire.Refused("because")))
    with pytest.raises(FarmError, match="because"):
        ask(endpoint, wire.Drain(), timeout_s=5.0)


def test_a_farm_of_another_version_is_named_as_that(
    serve: Callable[[bytes], None], endpoint: str
) -> None:
    serve(b"\x21\x91\x63")
    with pytest.raises(FarmError, match="another version"):
        ask(endpoint, wire.StatsRequest(), timeout_s=5.0)


def test_an_answer_to_another_question_is_an_error(
    serve: Callable[[bytes], None], endpoint: str
) -> None:
    serve(wire.encode(wire.Done()))
    with pytest.raises(FarmError, match="Done"):
        fetch_stats(endpoint, timeout_s=5.0)


def test_a_client_is_free_again_after_a_malformed_reply(
    context: zmq.Context, serve: Callable[[bytes], None], endpoint: str
) -> None:
    # a worker that waited for ever for a good one would never say Hello again
    client = ControlClient(context, endpoint, timeout_s=5.0)
    serve(b"rubbish")
    client.send(wire.StatsRequest())
    assert not client.is_free
    assert client.socket.poll(WAIT_MS)
    with pytest.raises(WireError):
        client.receive()
    assert client.is_free


def test_a_late_reply_is_never_taken_for_the_next_one(context: zmq.Context, endpoint: str) -> None:
    server = open_socket(context, Role.CONTROL_SERVER, endpoint)
    client = ControlClient(context, endpoint, timeout_s=0.0)
    client.send(wire.StatsRequest())
    assert server.poll(WAIT_MS)
    late, *_ = server.recv_multipart()
    assert client.give_up_if_late()
    assert client.is_free
    client.send(wire.Drain())
    server.send_multipart([late, b"", wire.encode(wire.StatsReply({}))])
    assert server.poll(WAIT_MS)
    identity, *_ = server.recv_multipart()
    server.send_multipart([identity, b"", wire.encode(wire.Done())])
    assert client.socket.poll(WAIT_MS)
    assert client.receive() == wire.Done()


def test_a_place_that_can_not_be_bound_is_a_state_error_with_a_cure(context: zmq.Context) -> None:
    with pytest.raises(StateError, match="dispatch"):
        open_socket(context, Role.JOBS_SENDER, "ipc:///nowhere/at/all")
