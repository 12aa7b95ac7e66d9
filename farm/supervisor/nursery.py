"""The `Nursery`: in which way a worker that is due is started, as a fold over events.

A decision without I/O: one for each configuration that workers are started with. The process that
it decides about is `farm.worker.nursery`, the shell is `farm.supervisor.launcher`.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from farm.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farm.supervisor.restart import RestartPolicy

FORK_TIMEOUT_S: Final = 3.0  # of one fork, which takes milliseconds: then the nursery is stuck

DEATH_TIMEOUT_S: Final = 3.0  # one that waits for a disk (state D) does not even die


class Way(Enum):
    """How a worker that is due is started."""

    FORK = "fork"  # from the nursery
    EXEC = "exec"  # by itself
    WAIT = "wait"  # the nursery loads, and will be there sooner than the worker's own model
    REFUSED = "refused"  # the nursery could not load the model, and neither could the worker


class State(Enum):
    """Where the process of the nursery stands."""

    ABSENT = "absent"  # to be started, now or after a back-off
    LOADING = "loading"
    READY = "ready"
    SPOILT = "spoilt"  # its model is unusable; to be started after a back-off
    UNFIT = "unfit"  # nothing can be forked from what it has loaded
    FAILED = "failed"  # given up


LEGAL: Final[dict[State, frozenset[State]]] = {
    State.ABSENT: frozenset({State.LOADING, State.ABSENT, State.FAILED}),
    State.LOADING: frozenset({State.READY, State.UNFIT, State.ABSENT, State.SPOILT, State.FAILED}),
    State.READY: frozenset({State.ABSENT, State.FAILED}),
    State.SPOILT: frozenset({State.LOADING, State.ABSENT, State.FAILED}),
    State.UNFIT: frozenset(),
    State.FAILED: frozenset(),
}

_WAYS: Final = {
    State.LOADING: Way.WAIT,
    State.READY: Way.FORK,
    State.SPOILT: Way.REFUSED,
    State.UNFIT: Way.EXEC,
    State.FAILED: Way.EXEC,
}


class Nursery:
    """See the module. Times are monotonic seconds.

    Args:
        policy: for its own restarts.
        view: of the configuration that it loads, see `farm.config.show.model_view`.
        ready_timeout_s: how long it may load.

    Attributes:
        ready_timeout_s: how long it may load.
        pid: of its process; 0 while there is none.
        start_at_s: when the next one is to be started, where it is to.
        started_s: when the process was started.
        since_s: since when it is in its state.
        is_condemned: a kill is on its way to the process.
    """

    def __init__(
        self, policy: RestartPolicy, view: Mapping[str, Any], *, ready_timeout_s: float
    ) -> None:
        self._policy = policy
        self.view = view
        self.ready_timeout_s = ready_timeout_s
        self.state = State.ABSENT
        self.pid = 0
        self.start_at_s = 0.0
        self.started_s = 0.0
        self.since_s: float | None = None
        self.is_condemned = False
        self._ready_s = 0.0
        self._condemned_s = 0.0

    def way(self, now_s: float) -> Way:
        """How a worker is to be started that is due now."""
        if self.state is State.ABSENT:
            return Way.WAIT if self.is_due(now_s) else Way.EXEC
        if self.is_condemned:  # it has a moment to live, and its successor follows
            return Way.WAIT if now_s - self._condemned_s <= DEATH_TIMEOUT_S else Way.EXEC
        return _WAYS[self.state]

    def is_due(self, now_s: float) -> bool:
        """Whether its process is to be started now."""
        return (
            self.state in (State.ABSENT, State.SPOILT) and not self.pid and now_s >= self.start_at_s
        )

    def is_late(self, now_s: float) -> bool:
        """Whether it loads for too long: then end it."""
        loads_s = now_s - self.started_s
        is_loading = self.state is State.LOADING and not self.is_condemned
        return is_loading and loads_s > self.ready_timeout_s

    def condemn(self, now_s: float) -> bool:
        """Its process is to be killed. True: by the caller, now; False: there is none to kill."""
        if not self.pid or self.is_condemned:
            return False
        self.is_condemned, self._condemned_s = True, now_s
        return True

    def started(self, pid: int, now_s: float) -> None:
        """Its process loads."""
        self._move(State.LOADING, now_s)
        self.pid, self.started_s, self.is_condemned = pid, now_s, False

    def not_started(self, now_s: float) -> None:
        """The system has no room for its process now."""
        self._move(State.ABSENT, now_s)
        self.start_at_s = now_s + self._policy.kept_from_starting()

    def ready(self, unfit: str, now_s: float) -> None:
        """Its process has loaded.

        Args:
            unfit: why nothing can be forked from it; "" where it can.
            now_s: the time.
        """
        self._move(State.UNFIT if unfit else State.READY, now_s)
        self._ready_s = now_s

    def ended(self, returncode: int, now_s: float) -> None:
        """Its process has ended, as `subprocess` gives the code."""
        self.pid, self.is_condemned = 0, False
        if self.state is State.UNFIT:  # it had said so, and is of no use
            return
        was_ready = self.state is State.READY
        delay_s = self._policy.failed(now_s, ready_s=now_s - self._ready_s if was_ready else None)
        if delay_s is None:
            self._move(State.FAILED, now_s)
            return
        is_spoilt = returncode == ExitCode.MODEL and not was_ready
        self._move(State.SPOILT if is_spoilt else State.ABSENT, now_s)
        self.start_at_s = now_s + delay_s

    def _move(self, state: State, now_s: float) -> None:
        if state not in LEGAL[self.state]:
            raise AssertionError(f"nursery: {self.state} ▶ {state}")
        if state is not self.state or self.since_s is None:
            self.since_s = now_s
        self.state = state
