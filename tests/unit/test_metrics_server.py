"""The HTTP server of the metrics: who is answered, what, and for how long anybody may hold it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.config.metrics import MetricsConfig
from farm.errors import ConfigError, StateError
from farm.metrics import server as server_module
from farm.metrics.request import MAX_HEAD_BYTES, RequestError, parse
from farm.metrics.server import MAX_CONNECTIONS, MetricsServer, Page
from farm.simulation.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TOKEN = "a-token-of-enough-characters"
WAIT_S = 10.0


@pytest.fixture
def start() -> Iterator[Callable[..., MetricsServer]]:
    """Starts servers with the pages /metrics and /slow, which waits for `let_go`."""
    made: list[MetricsServer] = []
    let_go = threading.Event()

    def slow() -> Page:
        let_go.wait(WAIT_S)
        return Page(HTTPStatus.OK, b"at last\n")

    def start_one(deadline_s: float = WAIT_S, **settings: Any) -> MetricsServer:
        config = MetricsConfig(listen=f"127.0.0.1:{free_port()}", **settings)
        pages = {"/metrics": lambda: Page(HTTPStatus.OK, b"farm 1\n"), "/slow": slow}
        server = MetricsServer(config, pages, deadline_s=deadline_s)
        server.start()
        made.append(server)
        return server

    yield start_one
    let_go.set()
    for server in made:
        server.stop()


def port_of(server: MetricsServer) -> int:
    return server._config.port


def connect(server: MetricsServer) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port_of(server)), WAIT_S)
    made.settimeout(WAIT_S)
    return made


def say(server: MetricsServer, data: bytes) -> bytes:
    """What comes back for some bytes, until the server ends the connection."""
    with connect(server) as connection:
        connection.sendall(data)
        return everything(connection)


def everything(connection: socket.socket) -> bytes:
    got = b""
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(65_536):
            got += more
    return got


def get(
    server: MetricsServer, path: str = "/metrics", method: str = "GET", **headers: str
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=WAIT_S)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def eventually(check: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not check():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.01)


def test_what_is_asked_for_is_answered_and_nothing_else(
    start: Callable[..., MetricsServer],
) -> None:
    """Prevents: a server that shows files, runs methods, or answers what it should not."""
    server = start()
    assert get(server) == (200, b"farm 1\n")
    assert get(server, "/metrics?name[]=farm") == (200, b"farm 1\n")
    for target in ("http://h/metrics", "HTTP://h:9477/metrics?a=b"):  # RFC 9112, section 3.2.2
        assert get(server, target) == (200, b"farm 1\n"), target
    for target in ("http://h", "http://h?a=/metrics", "http://h/no", "http://h//metrics"):
        assert get(server, target)[0] == 404, target
    for path in ("/", "/metrics/", "/metrics/../slow", "//metrics", "/etc/passwd", "/debug"):
        assert get(server, path)[0] == 404, path
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH"):
        assert get(server, method=method)[0] == 405, method


def test_a_head_has_the_length_and_no_body(start: Callable[..., MetricsServer]) -> None:
    """Prevents: a body that a client of HEAD takes for the next reply."""
    server = start()
    found = say(server, b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Length: 7\r\n" in found
    assert found.endswith(b"\r\n\r\n")
    assert say(server, b"HEAD /no HTTP/1.1\r\n\r\n").endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"GET /metrics\r\n\r\n",
        b"GET  /metrics HTTP/1.1\r\n\r\n",
        b"GET http:///metrics HTTP/1.1\r\n\r\n",
        b"GET ftp://x/metrics HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/2.0\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"\xff\xfe\x00\r\n\r\n",
    ],
)
def test_what_is_no_request_is_told_so(start: Callable[..., MetricsServer], data: bytes) -> None:
    """Prevents: an exception in the broker for what anybody may send."""
    server = start()
    assert say(server, data).startswith(b"HTTP/1.1 400 ")
    assert get(server)[0] == 200


@given(st.binary(max_size=200) | st.from_regex(rb"GET /[a-z]{0,9} HTTP/1.1(\r\n.{0,30}){0,4}"))
def test_no_head_raises_what_nobody_expects(head: bytes) -> None:
    """Prevents: a thread that ends with a traceback, and a connection without a reply."""
    with contextlib.suppress(RequestError):
        found = parse(head)
        assert found.path.startswith("/")


def test_a_head_without_an_end_is_cut_short(start: Callable[..., MetricsServer]) -> None:
    """Prevents: memory filled by a header that never ends."""
    server = start()
    found = say(server, b"GET /metrics HTTP/1.1\r\nA: " + b"x" * (4 * MAX_HEAD_BYTES))
    assert found.startswith(b"HTTP/1.1 431 ")


def test_a_client_that_leaves_harms_nobody(start: Callable[..., MetricsServer]) -> None:
    """Prevents: a thread or a place that is lost with each client that hangs up."""
    server = start()
    for _ in range(3 * MAX_CONNECTIONS):
        connect(server).close()
    assert get(server)[0] == 200
    eventually(lambda: server.connections == 0, "all places are free again")
    assert server.requests == {200: 1}, "who says nothing is no slow client"


# ---- tokens --------------------------------------------------------------------------------------


def test_who_has_no_token_learns_nothing(start: Callable[..., MetricsServer]) -> None:
    """Prevents: names of hosts and rates of a factory told to whoever reaches the port."""
    server = start(token=TOKEN)
    for shown in (
        {},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer \u00e4\u00f6\u00fc"},
    ):
        for path in ("/metrics", "/no-such-path"):
            status, body = get(server, path, **shown)
            assert (status, body) == (401, b"Unauthorized\n"), shown
    found = say(
        server,
        f"GET /metrics HTTP/1.1\r\nAuthorization: Bearer {TOKEN}x\r\n"
        f"Authorization: Bearer {TOKEN}\r\n\r\n".encode(),
    )
    assert found.startswith(b"HTTP/1.1 401 ")
    assert get(server, Authorization=f"Bearer {TOKEN}") == (200, b"farm 1\n")
    assert get(server, Authorization=f"bearer  {TOKEN} ") == (200, b"farm 1\n")


def test_a_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a token guessed character by character, by the time that a refusal takes."""
    from farm.metrics import access  # noqa: PLC0415

    asked = []
    monkeypatch.setattr(access.hmac, "compare_digest", lambda *both: asked.append(both) or False)
    assert not access.is_right(b"guess", TOKEN.encode())
    assert asked == [(b"guess", TOKEN.encode())]


def test_a_token_file_may_change_while_the_farm_runs(
    start: Callable[..., MetricsServer], tmp_path: Path
) -> None:
    """Prevents: a restart of the farm for a new secret, and a lost file that opens the door."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\nnothing of this\n")
    server = start(token_file=path)
    assert get(server, Authorization=f"Bearer {TOKEN}")[0] == 200
    path.write_text("another-token-of-enough-characters\n")
    assert get(server, Authorization=f"Bearer {TOKEN}")[0] == 401
    path.unlink()
    status, body = get(server, Authorization=f"Bearer {TOKEN}")
    assert (status, body) == (503, b"the token can't be read: see the log\n")


@pytest.mark.parametrize("content", ["", "short\n", "\u00e4" * 20, "sixteen\x07characters!"])
def test_a_file_without_a_token_is_refused_at_the_start(
    start: Callable[..., MetricsServer], tmp_path: Path, content: str
) -> None:
    """Prevents: an empty file that lets everybody in; and a message that shows what is in it."""
    path = tmp_path / "token"
    path.write_text(content)
    with pytest.raises(ConfigError, match="first line") as raised:
        start(token_file=path)
    assert not content or content.strip() not in str(raised.value)


# ---- who holds it --------------------------------------------------------------------------------


def test_slow_clients_can_not_hold_it_for_ever(start: Callable[..., MetricsServer]) -> None:
    """Prevents: eight clients that say a byte now and then, and no metrics any more."""
    server = start(deadline_s=0.6)
    held = [connect(server) for _ in range(MAX_CONNECTIONS)]
    for each in held:
        each.sendall(b"GET /metrics HTTP/1.1\r\n")
    eventually(lambda: server.connections == MAX_CONNECTIONS, "all places are taken")
    assert get(server)[0] == 200  # it waited for one to be cut off
    for each in held:
        assert everything(each) == b""
        each.close()
    eventually(lambda: server.requests[408] == MAX_CONNECTIONS, "all were counted")
    assert server.requests[400] == 0


def test_who_shows_no_token_keeps_nobody_out(start: Callable[..., MetricsServer]) -> None:
    """Prevents: a Prometheus that sees nothing, for sixteen connections on which nobody speaks."""
    server = start(token=TOKEN, deadline_s=10 * WAIT_S)
    silent = [connect(server) for _ in range(2 * MAX_CONNECTIONS)]
    eventually(lambda: server.connections == MAX_CONNECTIONS, "all places are taken")
    assert get(server, Authorization=f"Bearer {TOKEN}")[0] == 200  # they would stay for longer
    for each in silent:
        each.close()


def test_a_request_that_never_ends_has_two_seconds(
    start: Callable[..., MetricsServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents: ten seconds of a place for whoever begins a request and never ends it."""
    monkeypatch.setattr(server_module, "UNKNOWN_S", 0.3)
    server = start(token=TOKEN, deadline_s=10 * WAIT_S)
    with connect(server) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nAuthorization: Bearer guess")
        assert everything(connection) == b""
    eventually(lambda: server.connections == 0, "its place is free again")


def test_a_client_that_drips_is_cut_off_all_the_same(start: Callable[..., MetricsServer]) -> None:
    """Prevents: a deadline that begins anew with each byte."""
    server = start(deadline_s=0.5)
    with connect(server) as connection:
        began_s = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < began_s + WAIT_S:
                connection.sendall(b"G")
                time.sleep(0.05)
        eventually(lambda: server.connections == 0, "its place is free again")
        assert time.monotonic() < began_s + WAIT_S


def test_no_more_than_a_few_are_answered_at_once(start: Callable[..., MetricsServer]) -> None:
    """Prevents: a thread for each of a thousand connections."""
    server = start()
    held = [connect(server) for _ in range(MAX_CONNECTIONS + 5)]
    for each in held:
        each.sendall(b"GET /slow HTTP/1.1\r\n\r\n")
    eventually(lambda: server.connections == MAX_CONNECTIONS, "all places are taken")
    replies = [thread for thread in threading.enumerate() if thread.name == "metrics-reply"]
    assert len(replies) == MAX_CONNECTIONS
    for each in held:
        each.close()


def test_a_stop_ends_what_is_under_way(start: Callable[..., MetricsServer]) -> None:
    """Prevents: a farm that can't stop while somebody scrapes, and a port that stays taken."""
    server = start()
    with connect(server) as connection:
        connection.sendall(b"GET /metr")
        eventually(lambda: server.connections == 1, "it is connected")
        server.stop()
        assert everything(connection) == b""
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port_of(server))) != 0


def test_a_page_that_breaks_breaks_nothing_else(start: Callable[..., MetricsServer]) -> None:
    """Prevents: a fault in a rarely seen metric that ends all monitoring."""

    def breaks() -> Page:
        raise KeyError("no such count")

    server = start()
    server._pages = {**server._pages, "/broken": breaks}  # type: ignore[dict-item]
    assert say(server, b"GET /broken HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 500 ")
    assert get(server)[0] == 200


# ---- where it listens ----------------------------------------------------------------------------


def test_a_port_that_is_taken_is_named_with_the_cure() -> None:
    """Prevents: a bare "Address already in use" at the start of a second farm."""
    port = free_port()
    words = rf"metrics.listen: .*127.0.0.1:{port}.*in use.*ss -t"
    with socket.create_server(("127.0.0.1", port)), pytest.raises(StateError, match=words):
        MetricsServer(MetricsConfig(listen=f"127.0.0.1:{port}"), {})


@pytest.mark.parametrize(
    ("where", "words"), [("192.0.2.7:9477", "an address of this"), ("no.invalid:9477", "address")]
)
def test_an_address_of_another_machine_is_named_with_the_cure(where: str, words: str) -> None:
    """Prevents: a farm that seems to listen, and nobody can reach it."""
    with pytest.raises(ConfigError, match=words):
        MetricsServer(MetricsConfig(listen=where, token=TOKEN), {})


def test_it_is_there_again_at_once_after_a_restart(start: Callable[..., MetricsServer]) -> None:
    """Prevents: a port in TIME_WAIT that keeps a restarted broker from its work."""
    server = start()
    assert get(server)[0] == 200
    server.stop()
    again = MetricsServer(server._config, server._pages)
    again.start()
    assert get(again)[0] == 200
    again.stop()


def test_a_broker_that_came_back_waits_for_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a farm without a broker, since something else took the port of its metrics."""
    monkeypatch.setattr(server_module, "RETRY_S", 0.02)
    tries: list[MetricsConfig] = []
    really_listen = server_module.listen

    def listen(where: MetricsConfig) -> socket.socket:
        tries.append(where)
        return really_listen(where)

    monkeypatch.setattr(server_module, "listen", listen)
    config = MetricsConfig(listen=f"127.0.0.1:{free_port()}")
    pages = {"/metrics": lambda: Page(HTTPStatus.OK, b"farm 1\n")}
    with socket.create_server(("127.0.0.1", config.port)):
        server = MetricsServer(config, pages, is_patient=True)
        server.start()
        eventually(lambda: len(tries) > 2, "it tries again, in vain")
    eventually(lambda: is_answered(server), "it listens, now that it can")
    server.stop()


@pytest.mark.parametrize("missing", ["token", "certificate", "address"])
def test_a_broker_that_came_back_ends_for_no_fault_of_its_monitoring(
    tmp_path: Path, missing: str
) -> None:
    """Prevents: a production that stands still for a certificate that was renewed badly."""
    settings: dict[str, Any] = {
        "token": {"token_file": tmp_path / "gone"},
        "certificate": {"cert_file": tmp_path / "gone", "key_file": tmp_path / "gone"},
        "address": {"listen": "192.0.2.7:9477", "token": TOKEN},
    }[missing]
    config = MetricsConfig.model_validate({"listen": f"127.0.0.1:{free_port()}", **settings})
    with pytest.raises(ConfigError):
        MetricsServer(config, {})
    server = MetricsServer(config, {}, is_patient=True)
    server.start()
    server.stop()  # at once, though it waits


def is_answered(server: MetricsServer) -> bool:
    with contextlib.suppress(OSError):
        return get(server)[0] == 200
    return False
