"""The `Switchboard`: the broker's ends of the sockets to workers, supervisor and commands.

Owns the three ZeroMQ sockets and, where workers of other machines may attach, their doors. What
comes in is decoded, and past the gate; what is malformed or not theirs to say is counted, told, and
goes no further.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import zmq

from farm import log, wire
from farm.doors.rates import REQUESTS, RESULTS
from farm.errors import ConfigError, ForgedError, JournalError, RateError, WireError
from farm.sockets import Role, open_socket, receive, send_at_once

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Sequence

    from farm.broker.doors import Doors
    from farm.broker.gate import Gate
    from farm.doors.rates import Rates
    from farm.state_dir import Endpoints
    from farm.waker import Waker

MAX_REFUSAL_CHARS: Final = 2000  # what is refused may stand in it
_RESULTS_PER_TURN: Final = 500  # so that the rest gets its turn


class Switchboard:
    """See the module. Open from construction to `close`; one thread uses it.

    Args:
        endpoints: of the sockets on this machine.
        doors: to other machines; None: there are none.
        gate: what may be said through them.
        waker: ends `wait`.
        counts: raised here: bad_frames, forged.
        rates: how much may be said through the doors; None: any amount.

    Raises:
        StateError: an address is taken.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        doors: Doors | None,
        gate: Gate,
        waker: Waker,
        counts: Counter[str],
        rates: Rates | None = None,
    ) -> None:
        self._rates = rates
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._doors = doors
        self._gate = gate
        self._waker = waker
        self._counts = counts
        self._limited = log.Limited()
        self._log = log.get()
        self._jobs = open_socket(self._context, Role.JOBS_SENDER, endpoints.jobs)
        self._results = open_socket(self._context, Role.RESULTS_RECEIVER, endpoints.results)
        self._control = open_socket(self._context, Role.CONTROL_SERVER, endpoints.control)
        self._poller = zmq.Poller()
        readable = [self._results, self._control, waker.fd]
        if doors is not None:
            readable.append(
                doors.open(
                    self._context, jobs=self._jobs, results=self._results, control=self._control
                )
            )
        for each in readable:
            self._poller.register(each, zmq.POLLIN)
        self._ready: set[object] = set()

    def wait(self, timeout_ms: int) -> None:
        """Until something comes, the waker is used, or time is up."""
        self._ready = {readable for readable, _ in self._poller.poll(timeout_ms)}

    def close(self) -> None:
        """End all sockets; the last replies still go out."""
        if self._doors is not None:
            self._doors.close()
        self._context.destroy(linger=200)

    # ---- requests -----------------------------------------------------------------------------

    def answer(self, respond: Callable[[wire.Message, str], wire.Message]) -> None:
        """Reply to every request that has come.

        Args:
            respond: the reply to a request by whoever has a key of this name; "": on this machine.
        """
        if self._doors is not None and self._doors.socket in self._ready:
            self._doors.answer()
        if self._control not in self._ready:
            return
        while True:
            try:
                peer, [identity, *frames] = self._receive(self._control)
            except zmq.Again:
                return
            reply = self._reply([frame for frame in frames if frame], peer, respond)
            self._control.send_multipart([identity, b"", reply])

    def _reply(
        self,
        frames: Sequence[bytes],
        peer: str,
        respond: Callable[[wire.Message, str], wire.Message],
    ) -> bytes:
        try:
            self._check_rate(peer, REQUESTS, 1)
            request = wire.decode(frames)
            self._gate.check(request, peer)
            return wire.encode(respond(request, peer))
        except ConfigError as error:
            self._log.error("reload_refused", reason=str(error))
            refusal: Exception = error
        except WireError as error:
            self._refuse(error, "control_frame_refused")
            refusal = error
        except JournalError as error:  # whoever asks for a dead letter gets to know
            self._limited.warning("request_failed", reason=str(error))
            refusal = error
        except Exception as error:
            if not peer:
                raise
            # From another machine nothing may end the broker, whatever we have overlooked.
            self._counts["bad_frames"] += 1
            self._limited.warning("request_broke", key=peer, exc_info=error)
            refusal = WireError(f"the request can't be answered: {type(error).__name__}")
        return wire.encode(wire.Refused(str(refusal)[:MAX_REFUSAL_CHARS]))

    # ---- results and jobs -----------------------------------------------------------------------

    def results(self) -> Iterator[list[wire.Message]]:
        """What has come from workers, a message at a time: a batch of results is one."""
        if self._results not in self._ready:
            return
        for _ in range(_RESULTS_PER_TURN):
            try:
                peer, frames = self._receive(self._results)
            except zmq.Again:
                return
            yield self._decoded(frames, peer)
        self._waker.wake()  # more may lie there

    def _decoded(self, frames: Sequence[bytes], peer: str) -> list[wire.Message]:
        found: list[wire.Message] = []
        try:
            self._check_rate(peer, RESULTS, len(frames))
            _check_count(frames)
        except WireError as error:
            self._refuse(error, "result_frame_refused")
            return found
        for frame in frames:
            try:
                message = wire.decode([frame])
                if self._doors is not None:
                    self._gate.check(message, peer)
            except WireError as error:
                self._refuse(error, "result_frame_refused")
            else:
                found.append(message)
        return found

    def refuse_result(self, message: wire.Message) -> None:
        """A message that has no business on the results socket."""
        error = WireError(f"{type(message).__name__} on the results socket")
        self._refuse(error, "result_frame_refused")

    @property
    def takes_jobs(self) -> bool:
        """Whether a worker is connected that could be sent one."""
        return bool(self._jobs.poll(0, zmq.POLLOUT))

    def send(self, jobs: wire.Jobs) -> bool:
        """Send jobs to the next worker; False: none takes any now.

        Raises:
            WireError: they can't be sent to anybody.
        """
        try:
            send_at_once(self._jobs, wire.encode_jobs(jobs))
        except zmq.Again:
            return False
        return True

    # ---- inside -----------------------------------------------------------------------------

    def _receive(self, socket: zmq.Socket[bytes]) -> tuple[str, list[bytes]]:
        """The next message, and by which key it came; without doors there is none to ask for."""
        if self._doors is None:
            return "", socket.recv_multipart(zmq.NOBLOCK)
        return receive(socket)

    def _check_rate(self, peer: str, what: str, messages: int) -> None:
        """Before anything is decoded.

        Raises:
            RateError: it is more than his key may say.
        """
        if (
            peer
            and self._rates is not None
            and (fault := self._rates.fault(peer, what, messages, time.monotonic()))
        ):
            raise RateError(fault)

    def _refuse(self, error: WireError, event: str) -> None:
        if isinstance(error, RateError):  # counted by the rates
            self._limited.warning("too_many_messages_refused", reason=str(error))
            return
        is_forged = isinstance(error, ForgedError)
        self._counts["forged" if is_forged else "bad_frames"] += 1
        self._limited.warning("forged_message_refused" if is_forged else event, reason=str(error))


def _check_count(frames: Sequence[bytes]) -> None:
    """Whether so many results may come together.

    Raises:
        WireError: no worker keeps so many.
    """
    if len(frames) > wire.MAX_FRAMES:
        raise WireError(f"{len(frames)} frames of results, at most {wire.MAX_FRAMES}")
