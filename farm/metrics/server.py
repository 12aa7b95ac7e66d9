"""The HTTP server of /metrics, /healthz and /readyz: few connections, each for a few seconds.

A thread accepts, and one for each connection answers. Nobody can hold one for longer than a
deadline, however slowly he speaks, and who has shown no token not for as long: see `Places`. Who
comes while all are taken waits in the kernel's queue.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import ssl
import threading
import time
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from farm import log
from farm.errors import ConfigError, FarmError, StateError
from farm.metrics.access import Certificate, is_right, token_of
from farm.metrics.places import Places
from farm.metrics.request import END, MAX_HEAD_BYTES, TEXT, Request, RequestError, parse, reply
from farm.waker import Waker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from farm.config.metrics import MetricsConfig

MAX_CONNECTIONS: Final = 8
QUEUE: Final = 32  # of the kernel's; beyond it a client is not even connected
DEADLINE_S: Final = 10.0  # of a connection in all; the loop may need three to answer
UNKNOWN_S: Final = 2.0  # of one without a request and the right token; a TLS handshake is in it
RETRY_S: Final = 2.0  # to listen, where that failed
LOOK_EVERY_S: Final = 0.25  # at deadlines
LINGER_S: Final = 0.5  # for what a client still sends: else its own system may drop our reply
LINGER_BYTES: Final = 65_536


class Page(NamedTuple):
    """What is answered."""

    status: HTTPStatus
    body: bytes
    content_type: str = TEXT


class MetricsServer:
    """See the module. Listens from construction on, answers from `start` to `stop`.

    Args:
        config: where, and who may ask.
        pages: what makes the page of each path; called on threads of ours.
        requests: counts replies by HTTP status.
        deadline_s: of a connection.
        is_patient: what keeps it from listening is told, and tried again until it listens.

    Raises:
        StateError: the address is taken. Not where it is patient; nor is the other one:
        ConfigError: it is no address of this machine, or the token or certificate can't be read.
    """

    def __init__(
        self,
        config: MetricsConfig,
        pages: Mapping[str, Callable[[], Page]],
        *,
        requests: Counter[int] | None = None,
        deadline_s: float = DEADLINE_S,
        is_patient: bool = False,
    ) -> None:
        self._config = config
        self._pages = pages
        self._deadline_s = deadline_s
        self.requests: Counter[int] = Counter() if requests is None else requests
        self._limited = log.Limited()
        self._certificate: Certificate | None = None
        self._socket: socket.socket | None = None
        try:
            self._begin_to_listen()
        except FarmError as error:
            if not is_patient:
                raise
            self._say_not_listening(error)
        self._waker = Waker()
        self._places: Places[socket.socket] = Places(  # guarded by the lock
            MAX_CONNECTIONS, unknown_s=UNKNOWN_S, known_s=deadline_s
        )
        self._lock = threading.Lock()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more; what is under way is cut off."""
        self._is_stopping = True
        self._waker.wake()
        if self._thread.is_alive():
            self._thread.join()
        if self._socket is not None:
            self._socket.close()

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._places)

    def _begin_to_listen(self) -> None:
        config = self._config
        token_of(config)
        if config.cert_file is not None and config.key_file is not None:
            self._certificate = Certificate(config.cert_file, config.key_file)
        self._socket = listen(config)

    def _say_not_listening(self, error: FarmError) -> None:
        self._limited.warning(
            "metrics_not_listening",
            reason=str(error),
            effect="the farm runs, and nobody can see it by /metrics",
            next="trying again",
        )

    # ---- the accepting thread -----------------------------------------------------------------

    def _run(self) -> None:
        listening = self._wait_to_listen()
        if listening is None:
            return
        config = self._config
        log.get().info("metrics_listening", address=config.listen, tls=bool(config.cert_file))
        self._accept_from(listening)

    def _wait_to_listen(self) -> socket.socket | None:
        """What we listen with, when there is one; None: it is to stop."""
        while self._socket is None:
            if self._is_stopping:
                return None
            select.select([self._waker.fd], [], [], RETRY_S)
            self._waker.clear()
            try:
                self._begin_to_listen()
            except FarmError as error:
                self._say_not_listening(error)
        return self._socket

    def _accept_from(self, listening: socket.socket) -> None:
        poller = select.poll()
        poller.register(self._waker.fd, select.POLLIN)
        while not self._is_stopping:
            with self._lock:
                goes_first = self._places.goes_first(time.monotonic())
                has_room = not self._places.is_full
            if has_room or goes_first is not None:
                poller.register(listening, select.POLLIN)
            else:
                with contextlib.suppress(KeyError):
                    poller.unregister(listening)
            ready = {fd for fd, _ in poller.poll(LOOK_EVERY_S * 1000 if self._places else None)}
            self._waker.clear()
            self._cut_off(time.monotonic())
            if listening.fileno() in ready:
                if has_room:
                    self._accept(listening)
                elif goes_first is not None:
                    self._make_room(goes_first)
        self._cut_off(float("inf"))

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, address = listening.accept()
        except OSError as error:  # it has gone again, or there are no descriptors
            self._limited.warning("metrics_not_accepted", reason=error.strerror)
            time.sleep(LINGER_S)
            return
        connection.settimeout(self._deadline_s)
        with self._lock:
            self._places.take(connection, address[0], time.monotonic())
        thread = threading.Thread(
            target=self._serve, args=(connection,), name="metrics-reply", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # no more threads
            self._limited.warning("metrics_not_answered", reason=str(error))
            self._close(connection)

    def _cut_off(self, now_s: float) -> None:
        """End the connections whose time is up: their threads' reads and writes then fail."""
        with self._lock:  # while it is in the table its descriptor is not closed
            for connection in self._places.overdue(now_s):
                self._end(connection)

    def _make_room(self, connection: socket.socket) -> None:
        """End a connection for one who waits: when its thread has noticed, he has the place."""
        with self._lock:
            if self._places.going(connection):  # else it has left meanwhile, and is closed
                self._end(connection)

    def _end(self, connection: socket.socket) -> None:
        self._places.going(connection)
        with contextlib.suppress(OSError):  # the client has left
            connection.shutdown(socket.SHUT_RDWR)

    # ---- the threads of the connections -------------------------------------------------------

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._certificate is None:
                self._converse(connection, connection)
            else:
                context = self._certificate.context()
                with self._wrapped(context, connection) as secured:
                    self._converse(secured, connection)
        except (OSError, ValueError) as error:
            self._count_unanswered(connection, error)
        finally:
            self._close(connection)

    def _count_unanswered(self, connection: socket.socket, error: Exception) -> None:
        """Who was cut off, or speaks no TLS. To connect and leave, as a probe does, is nothing."""
        with self._lock:
            was_cut_off = self._places.is_going(connection) or isinstance(error, TimeoutError)
        if was_cut_off:
            self._count(HTTPStatus.REQUEST_TIMEOUT)
        elif isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
            self._count(HTTPStatus.BAD_REQUEST)

    def _wrapped(self, context: ssl.SSLContext, connection: socket.socket) -> ssl.SSLSocket:
        # `wrap_socket` takes the descriptor over: this one is a second, so that ours stays valid
        second = connection.dup()
        second.settimeout(self._deadline_s)
        try:
            return context.wrap_socket(second, server_side=True)
        except BaseException:
            second.close()
            raise

    def _converse(self, connection: socket.socket, place: socket.socket) -> None:
        request: Request | None = None
        try:
            request = parse(_head(connection))
            page = self._page(request, place)
        except RequestError as error:
            page = Page(error.status, f"{error.status.phrase}\n".encode())
        self._count(page.status)
        wants_body = request is None or request.wants_body
        connection.sendall(
            reply(page.status, page.body, content_type=page.content_type, wants_body=wants_body)
        )
        if not isinstance(connection, ssl.SSLSocket):
            _see_out(connection)

    def _page(self, request: Request, place: socket.socket) -> Page:
        try:
            token = token_of(self._config)
        except ConfigError as error:
            self._limited.warning("metrics_token_unreadable", reason=str(error))
            return Page(HTTPStatus.SERVICE_UNAVAILABLE, b"the token can't be read: see the log\n")
        if not is_right(request.token, token):
            raise RequestError(HTTPStatus.UNAUTHORIZED)
        with self._lock:
            self._places.known(place)
        make = self._pages.get(request.path)
        if make is None:
            raise RequestError(HTTPStatus.NOT_FOUND)
        try:
            return make()
        except Exception as error:  # monitoring must not end the broker
            self._limited.warning("metrics_page_broke", path=request.path, exc_info=error)
            raise RequestError(HTTPStatus.INTERNAL_SERVER_ERROR) from error

    def _count(self, status: HTTPStatus) -> None:
        with self._lock:
            self.requests[status.value] += 1

    def _close(self, connection: socket.socket) -> None:
        with self._lock:
            self._places.leave(connection)
            connection.close()
        self._waker.wake()


def listen(config: MetricsConfig) -> socket.socket:
    """A socket that listens where it was said.

    Raises:
        StateError: the port is taken.
        ConfigError: it can't be listened there at all.
    """
    host = "" if config.host in ("*", "0.0.0.0") else config.host  # noqa: S104 - compared
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, config.port))
        made.listen(QUEUE)
    except OSError as error:
        made.close()
        raise _refusal(config.listen, error) from error
    return made


def _refusal(where: str, error: OSError) -> FarmError:
    told = f"metrics.listen: can't listen at {where} ({error.strerror or error})"
    if isinstance(error, PermissionError):
        return ConfigError(f"{told}: take a port above 1023")
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return ConfigError(f"{told}: give an address of this machine (`ip addr` shows them)")
    return StateError(
        f"{told}: end what holds it (`ss -tlnp` shows that), or set another port; each farm of a"
        " machine needs its own"
    )


def _head(connection: socket.socket) -> bytes:
    """What comes before the empty line.

    Raises:
        RequestError: it is too long.
        OSError: the connection is gone.
    """
    got = b""
    while END not in got:
        more = connection.recv(4096)
        if not more:
            raise ConnectionError("the client has left, or was cut off")
        got += more
        if len(got) > MAX_HEAD_BYTES:
            raise RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    return got.partition(END)[0]


def _see_out(connection: socket.socket) -> None:
    """Let a client have our reply: to close on what it still sends would take it back."""
    connection.settimeout(LINGER_S)
    connection.shutdown(socket.SHUT_WR)
    left = LINGER_BYTES
    with contextlib.suppress(OSError):  # he has his reply, or will never take it
        while left > 0 and (got := connection.recv(4096)):
            left -= len(got)
