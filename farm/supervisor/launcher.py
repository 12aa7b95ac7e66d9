"""The `Launcher`: starts workers, by fork from the nursery or by exec, and keeps the nursery.

A shell: it owns the socket to each nursery and those on which newborns report. Which way a worker
takes is the decision of `farm.supervisor.nursery`.

A worker that is forked has a *birth socket*: the supervisor makes the pair and sends one end along
with the request; the newborn tells its pid there and begins when the supervisor knows it. Where
either has gone meanwhile the socket is closed, and no worker lives that nobody knows of.
"""

from __future__ import annotations

import array
import contextlib
import os
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from farm import log, wire
from farm.config.show import model_view
from farm.errors import WireError
from farm.gpus import NO_GPU_ENVIRONMENT, Plan
from farm.supervisor.nursery import FORK_TIMEOUT_S, Nursery, State, Way
from farm.supervisor.pool import Slot, describe_end
from farm.supervisor.spawning import Cradle, spawn_nursery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from farm.config import Config
    from farm.supervisor.children import Children
    from farm.supervisor.restart import RestartPolicy

MAX_PACKET_BYTES: Final = 4096


@dataclass(slots=True)
class _Birth:
    """A worker that was asked for and has not reported yet."""

    slot: Slot
    socket: socket.socket
    asked_s: float


@dataclass(slots=True)
class _Home:
    """A nursery and the socket to its process."""

    nursery: Nursery
    edition: int  # of the configuration that it has loaded
    control: socket.socket | None = None
    unfit: str = ""  # why nothing can be forked from it
    is_at_end: bool = False  # its process has closed the socket: nothing more comes

    def close(self) -> None:
        if self.control is not None:
            self.control.close()
            self.control = None


class Launcher:
    """See the module. For the main thread.

    Args:
        children: of the supervisor.
        child_args: what every child is told of the configuration.
        config: gives the configuration in force.
        edition: gives its number, see `InForce`.
        make_policy: gives a policy for the restarts of a nursery.
        control_endpoint: of the broker, for workers that are forked.
        early: a nursery that was started already and told what to load, if any.
        gpus: which workers get a GPU; None: none does.
    """

    def __init__(
        self,
        children: Children,
        child_args: Sequence[str],
        *,
        config: Callable[[], Config],
        edition: Callable[[], int],
        make_policy: Callable[[], RestartPolicy],
        control_endpoint: str,
        early: Cradle | None = None,
        gpus: Plan | None = None,
    ) -> None:
        self._gpus = gpus or Plan({})
        self._children = children
        self._child_args = list(child_args)
        self._config = config
        self._edition = edition
        self._make_policy = make_policy
        self._control_endpoint = control_endpoint
        self._early = early
        # How it ended, where it did before it was taken over.
        self._early_end: tuple[int, bool] | None = None
        if early is not None:
            children.take(early.process)  # now: its end must not be reaped as that of a stranger
        self._homes: list[_Home] = []
        self._births: list[_Birth] = []
        self._by_exec = ""  # why, as it was said last
        self._made = 0  # processes of nurseries, so far
        self._last_end = ""  # of one that ended by itself
        self._log = log.get()

    # ---- which way ----------------------------------------------------------------------------

    def way(self, now_s: float) -> Way:
        """How a worker that is due is to be started now."""
        home = self._wanted()
        if home is None:
            return Way.EXEC
        way = home.nursery.way(now_s)
        if way is Way.FORK:
            self._by_exec = ""
        return way

    def told(self, now_s: float) -> dict[str, Any]:
        """For `farm stats`: how workers are launched, and where the nursery stands.

        Returns:
            Its `state` ("off" where none is wanted), for how many seconds (`for_s`), the number of
            those `made` so far, the `way` a worker would take now, and the `cause` of its being
            unfit, or else of the last end of one. Empty where there are no local workers.
        """
        if self._config().workers.launch == "exec":
            return {"state": "off", "for_s": None, "made": self._made, "way": "exec", "cause": ""}
        home = self._of_configuration()
        if home is None:
            return {}
        nursery = home.nursery
        return {
            "state": nursery.state.value,
            "for_s": None if nursery.since_s is None else now_s - nursery.since_s,
            "made": self._made,
            "way": nursery.way(now_s).value,
            "cause": home.unfit or self._last_end,
        }

    def is_asked(self, slot: Slot) -> bool:
        """Whether a worker for this slot was asked for and has not reported yet."""
        return any(birth.slot is slot for birth in self._births)

    def exec(self, slot: Slot) -> int:
        """Start the worker of a slot by itself; returns its pid.

        Raises:
            OSError: the system has no room for it now.
        """
        command = ["worker", "--name", slot.name, *self._child_args]
        gpu = self._gpus.workers.get(slot.name)
        if gpu is not None:
            told = gpu.environment
            return self._children.spawn([*command, "--device", gpu.device], os.environ | told)
        if self._gpus.hides:
            return self._children.spawn(command, os.environ | NO_GPU_ENVIRONMENT)
        return self._children.spawn(command)

    def has_gpu(self, slot: Slot) -> bool:
        """Whether the worker of a slot gets a GPU: then it is never forked."""
        return slot.name in self._gpus.workers

    def fork(self, slot: Slot, now_s: float) -> None:
        """Ask the nursery for the worker of a slot; `born` will tell."""
        home = self._wanted()
        assert home is not None
        assert home.control is not None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        rights = array.array("i", [theirs.fileno()])
        # A nursery that has just ended, or is stuck behind a full socket, is found out otherwise:
        # the birth socket is closed, or its time is over.
        with theirs, contextlib.suppress(OSError):
            home.control.sendmsg(
                [wire.encode(wire.Fork(slot.name))],
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)],
            )
        self._births.append(_Birth(slot, ours, now_s))

    # ---- what the loop does -------------------------------------------------------------------

    def descriptors(self) -> list[int]:
        """What to poll for reading."""
        homes = [
            home.control.fileno()
            for home in self._homes
            if home.control is not None and not home.is_at_end  # else the loop would spin
        ]
        return [*homes, *(birth.socket.fileno() for birth in self._births)]

    def keep_nursery(self, now_s: float, *, is_needed: bool, keeps_former: bool) -> None:
        """Have a nursery for the configuration in force, hear it, and let go of others.

        Args:
            now_s: the time.
            is_needed: there are local workers.
            keeps_former: a reload is under way: it may have to be taken back.
        """
        wanted = self._wanted() if is_needed else None
        if not keeps_former:
            for home in [home for home in self._homes if home is not wanted]:
                home.close()  # that ends its process
                self._homes.remove(home)
        if wanted is None:
            self._let_early_go()
            return
        if wanted.nursery.is_due(now_s):
            self._start(wanted, now_s)
        for home in self._homes:
            self._hear(home, now_s)
        if wanted.nursery.is_late(now_s):
            self._end(wanted, "not READY in time: raise workers.ready_timeout_s", now_s)

    def born(self, now_s: float) -> Iterator[tuple[Slot, int]]:
        """Workers that were asked for: the slot, and the pid or 0 where none came.

        One that does not sit in its slot when the next is asked for is told to go.
        """
        for birth in list(self._births):
            try:
                told = birth.socket.recv(MAX_PACKET_BYTES)
            except BlockingIOError:
                if now_s - birth.asked_s <= FORK_TIMEOUT_S:
                    continue
                told = b""
                self._end_stuck(now_s)
            except OSError:
                told = b""
            self._births.remove(birth)
            with birth.socket:
                pid = int(told or b"0")
                if pid and not self._children.adopt(pid):
                    pid = 0
                yield birth.slot, pid
                if pid and birth.slot.pid == pid:
                    with contextlib.suppress(OSError):  # it has ended: that is reaped
                        birth.socket.send(wire.BEGIN)

    def ended(self, pid: int, returncode: int, now_s: float, *, is_out_of_memory: bool) -> bool:
        """A process has ended: whether it was a nursery's."""
        home = next((home for home in self._homes if home.nursery.pid == pid), None)
        if home is None:
            if self._early is None or self._early.process.pid != pid:
                return False
            self._early_end = returncode, is_out_of_memory
            return True
        self._hear(home, now_s)  # its last words
        home.close()
        nursery, by_us = home.nursery, home.nursery.is_condemned
        nursery.ended(returncode, now_s)
        if nursery.state is State.UNFIT:
            return True
        is_given_up = nursery.state is State.FAILED
        how = describe_end(returncode, by_us=by_us, is_out_of_memory=is_out_of_memory)
        self._last_end = how
        wait_s = None if is_given_up else round(max(nursery.start_at_s - now_s, 0.0), 2)
        self._log.warning("nursery_ended", how=how, restart_in_s=wait_s)
        if is_given_up:
            self._say_by_exec("the nursery ended again and again: see its log lines")
        return True

    def reloaded(self) -> None:
        """An operator asks for a reload: what was wrong with a nursery may have been mended."""
        for home in list(self._homes):
            if home.nursery.state in (State.UNFIT, State.FAILED):
                home.close()
                self._homes.remove(home)
        self._by_exec = ""

    def close(self) -> None:
        """The farm ends: no worker is started any more."""
        self._let_early_go()
        for home in self._homes:
            home.close()  # that ends its process
        self._homes.clear()
        for birth in self._births:
            birth.socket.close()
        self._births.clear()

    # ---- the nursery --------------------------------------------------------------------------

    def _wanted(self) -> _Home | None:
        """That of the configuration in force, made where there is none; None: it wants none."""
        config = self._config()
        if config.workers.launch == "exec":
            return None
        timeout_s = config.workers.ready_timeout_s
        home = self._of_configuration()
        if home is None:
            nursery = Nursery(self._make_policy(), model_view(config), ready_timeout_s=timeout_s)
            home = _Home(nursery, self._edition())
            self._homes.append(home)
        home.nursery.ready_timeout_s = timeout_s
        return home

    def _of_configuration(self) -> _Home | None:
        view, edition = model_view(self._config()), self._edition()
        for home in self._homes:
            # After a reload the same view is not enough: the files that it names may be others.
            if home.nursery.view == view and home.edition == edition:
                return home
        return None

    def _start(self, home: _Home, now_s: float) -> None:
        config = self._config()
        if self._early is not None and not self._early.is_told(config):
            self._let_early_go()
        is_early = self._early is not None
        try:
            cradle, self._early = self._early or spawn_nursery(), None
        except OSError as error:
            home.nursery.not_started(now_s)
            self._log.error("spawn_failed", child="nursery", reason=str(error))
            return
        home.control, home.is_at_end = cradle.control, False
        pid = cradle.process.pid if is_early else self._children.take(cradle.process)
        home.nursery.started(pid, now_s)
        self._made += 1
        if self._early_end is not None:
            (returncode, is_out_of_memory), self._early_end = self._early_end, None
            self.ended(pid, returncode, now_s, is_out_of_memory=is_out_of_memory)
            return
        if not cradle.is_told(config):
            cradle.tell(config, self._control_endpoint)

    def _hear(self, home: _Home, now_s: float) -> None:
        if home.control is None or home.is_at_end:
            return
        try:
            frame = home.control.recv(MAX_PACKET_BYTES)
            if not frame:  # it ends: whoever reaps it will say how
                home.is_at_end = True
                return
            told = wire.decode([frame])
        except BlockingIOError:
            return
        except ConnectionResetError:  # it ended before it had read all
            home.is_at_end = True
            return
        except (OSError, WireError) as error:
            self._end(home, f"it can't be understood: {error}", now_s)
            return
        if isinstance(told, wire.NurseryReady) and home.nursery.state is State.LOADING:
            home.nursery.ready(told.unfit, now_s)
            home.unfit = told.unfit
            if told.unfit:
                self._say_by_exec(f"{told.unfit}, and a fork would break it")
                return
            self._log.info(
                "nursery_ready",
                pid=home.nursery.pid,
                model=told.model_version,
                load_s=round(told.load_s, 2),
                after_s=round(now_s - home.nursery.started_s, 2),
            )

    def _end(self, home: _Home, why: str, now_s: float) -> None:
        if home.nursery.condemn(now_s):
            self._log.warning("killing", pid=home.nursery.pid, why=f"nursery: {why}")
            self._children.signal([home.nursery.pid], signal.SIGKILL)

    def _end_stuck(self, now_s: float) -> None:
        for home in self._homes:
            if home.nursery.state is State.READY:
                self._end(home, f"it forked no worker in {FORK_TIMEOUT_S:g} s", now_s)

    def _let_early_go(self) -> None:
        if self._early is not None:
            self._early.control.close()
            self._early = self._early_end = None

    def _say_by_exec(self, cause: str) -> None:
        if cause == self._by_exec:
            return
        self._by_exec = cause
        self._log.warning(
            "workers_by_exec",
            cause=cause,
            effect="each worker loads a model of its own: more memory, seconds to start",
            cure="workers.launch: exec does so from the beginning",
        )
