"""The faulty proxy, with sockets on loopback: what each fault does to bytes and peers."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from farm.simulation.proxy import FaultyProxy

TIMEOUT_S = 5.0
SILENCE_S = 0.15  # that nothing comes can't be proved, only waited for


class Echo:
    """A server that sends back what it gets, and remembers its connections."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.ended = threading.Semaphore(0)  # one for each connection that was closed on it
        self.accepted = threading.Semaphore(0)
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for each in (self._server, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def hang_up(self) -> None:
        for each in self._open:
            each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._server.accept()
                self._open.append(peer)
                self.accepted.release()
                threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := peer.recv(65536):
                peer.sendall(data)
        self.ended.release()


@pytest.fixture
def echo():
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo):
    with FaultyProxy("127.0.0.1", echo.port) as made:
        yield made


@pytest.fixture
def connect(proxy):
    made = []

    def go() -> socket.socket:
        made.append(socket.create_connection(("127.0.0.1", proxy.port), TIMEOUT_S))
        return made[-1]

    yield go
    for each in made:
        each.close()


def ask(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    got = b""
    while len(got) < len(data):
        more = client.recv(len(data) - len(got))
        if not more:
            break
        got += more
    return got


def is_silent(client: socket.socket) -> bool:
    client.settimeout(SILENCE_S)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(TIMEOUT_S)
    return False


def is_closed(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def test_bytes_pass_unchanged_also_many(connect):
    # prevents: a proxy that is a fault of its own
    data = bytes(range(256)) * 8000
    client = connect()
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    got = b""
    while len(got) < len(data):
        got += client.recv(65536)
    sender.join()
    assert got == data


def test_a_cut_ends_both_sides_and_a_new_connection_works(connect, proxy, echo):
    client = connect()
    assert ask(client, b"one") == b"one"
    proxy.cut()
    assert is_closed(client)
    assert echo.ended.acquire(timeout=TIMEOUT_S)
    assert ask(connect(), b"two") == b"two"
    first, second = proxy.passages()
    assert first.ended_s is not None
    assert first.opened_s < first.ended_s < second.opened_s
    assert second.ended_s is None


def test_a_delay_holds_bytes_back_and_keeps_their_order(connect, proxy):
    client = connect()
    proxy.delay(0.2)
    began_s = time.monotonic()
    client.sendall(b"a")
    client.sendall(b"b")
    assert is_silent(client)
    proxy.heal()
    client.sendall(b"c")  # may not overtake what still waits
    got = b""
    while len(got) < 3:
        got += client.recv(3)
    assert got == b"abc"
    assert time.monotonic() - began_s >= 0.2, "it was not held back"


def test_a_black_hole_swallows_without_a_close_and_never_comes_back(connect, proxy, echo):
    # prevents: a half-open link that is none, since a close or late bytes give it away
    old = connect()
    assert ask(old, b"one") == b"one"
    proxy.blackhole()
    old.sendall(b"swallowed")
    assert is_silent(old)
    during = connect()
    during.sendall(b"also swallowed")
    assert is_silent(during)
    proxy.heal()
    old.sendall(b"still swallowed")
    assert is_silent(old)
    assert is_silent(during)
    assert ask(connect(), b"two") == b"two"
    assert [p.ended_s is None for p in proxy.passages()] == [False, False, True]
    assert not echo.ended.acquire(blocking=False), "the far side must not notice"


def test_who_closes_a_half_open_connection_is_not_heard_on_the_other_side(connect, proxy, echo):
    # prevents: mosquitto told at once of what it has to find out by its keepalive
    client = connect()
    assert ask(client, b"one") == b"one"
    proxy.blackhole()
    client.close()
    assert not echo.ended.acquire(timeout=SILENCE_S)
    proxy.close()
    assert echo.ended.acquire(timeout=TIMEOUT_S)


def test_a_close_passes_through_either_way(connect, echo):
    client = connect()
    assert ask(client, b"one") == b"one"
    client.close()
    assert echo.ended.acquire(timeout=TIMEOUT_S)
    other = connect()
    assert ask(other, b"two") == b"two"
    echo.hang_up()
    assert is_closed(other)


def test_without_a_target_a_connection_ends_at_once(connect, proxy, echo):
    # prevents: a farm that waits for the answer of an MQTT broker that is not there
    echo.close()
    assert is_closed(connect())
