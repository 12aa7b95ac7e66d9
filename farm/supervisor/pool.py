"""The `Pool`: one slot per process the supervisor keeps, as a fold over events.

A decision without I/O: it takes starts, exits, READY reports and the time, and says what to start
and what to kill. Spawning, killing and the clock are the shell's (`farm.supervisor.process`).
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from farm.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from farm.supervisor.restart import RestartPolicy


class SlotState(Enum):
    """Where a slot stands."""

    WAITING = "waiting"  # to be started, now or after a back-off
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"  # given up


LEGAL: dict[SlotState, frozenset[SlotState]] = {
    SlotState.WAITING: frozenset({SlotState.STARTING}),
    SlotState.STARTING: frozenset({SlotState.READY, SlotState.WAITING, SlotState.FAILED}),
    SlotState.READY: frozenset({SlotState.WAITING, SlotState.FAILED}),
    SlotState.FAILED: frozenset(),
}


@dataclass(slots=True)
class Slot:
    """One place for one process."""

    name: str
    policy: RestartPolicy
    state: SlotState = SlotState.WAITING
    pid: int = 0
    start_at_s: float = 0.0
    started_s: float = 0.0
    killed: bool = False  # a kill is on its way
    last_end: str = ""

    def move(self, state: SlotState) -> None:
        """Change the state, along the table only."""
        if state not in LEGAL[self.state]:
            raise AssertionError(f"{self.name}: {self.state} ▶ {state}")
        self.state = state


class Pool:
    """See the module."""

    def __init__(
        self,
        names: Collection[str],
        make_policy: Callable[[], RestartPolicy],
        *,
        ready_timeout_s: float,
    ) -> None:
        self.slots = [Slot(name, make_policy()) for name in names]
        self._ready_timeout_s = ready_timeout_s
        self._was_any_ready = False

    def due(self, now_s: float) -> list[Slot]:
        """The slots to start now."""
        return [s for s in self.slots if s.state is SlotState.WAITING and s.start_at_s <= now_s]

    def started(self, slot: Slot, pid: int, now_s: float) -> None:
        """A process runs in this slot."""
        slot.move(SlotState.STARTING)
        slot.pid, slot.started_s, slot.killed = pid, now_s, False

    def note_ready(self, pids: Collection[int]) -> None:
        """These processes came up."""
        for slot in self.slots:
            if slot.state is SlotState.STARTING and slot.pid in pids:
                slot.move(SlotState.READY)
                self._was_any_ready = True

    def of_pid(self, pid: int) -> Slot | None:
        """The slot that a running process sits in."""
        running = (SlotState.STARTING, SlotState.READY)
        return next((s for s in self.slots if s.pid == pid and s.state in running), None)

    def exited(self, pid: int, returncode: int, now_s: float) -> Slot | None:
        """A process ended unasked: its slot waits for the back-off, or is given up."""
        slot = self.of_pid(pid)
        if slot is None:
            return None
        slot.last_end = describe_end(returncode, by_us=slot.killed)
        delay_s = slot.policy.failed(now_s, was_ready=slot.state is SlotState.READY)
        # A model that no worker could load is a wrong one, and stays wrong. Once one has loaded it,
        # the next failure may be the machine's, so it is worth the trying.
        is_wrong_model = returncode == ExitCode.MODEL and not self._was_any_ready
        if delay_s is None or is_wrong_model:
            slot.move(SlotState.FAILED)
        else:
            slot.move(SlotState.WAITING)
            slot.start_at_s = now_s + delay_s
        slot.pid = 0
        return slot

    def never_ready(self, now_s: float) -> list[Slot]:
        """The slots whose process did not come up in time; condemn them."""
        return [
            slot
            for slot in self.slots
            if slot.state is SlotState.STARTING
            and not slot.killed
            and now_s - slot.started_s > self._ready_timeout_s
        ]

    def condemn(self, pid: int) -> bool:
        """A process is to be killed. True: by the caller, now; False: not ours, or done already."""
        slot = self.of_pid(pid)
        if slot is None or slot.killed:
            return False
        slot.killed = True
        return True

    @property
    def running(self) -> list[Slot]:
        """The slots with a live process."""
        return [s for s in self.slots if s.pid]

    @property
    def failed(self) -> list[tuple[int, str]]:
        """The numbers of the slots that were given up, and how their last process ended."""
        return [
            (number, slot.last_end)
            for number, slot in enumerate(self.slots, start=1)
            if slot.state is SlotState.FAILED
        ]

    @property
    def is_hopeless(self) -> bool:
        """Whether more than half of the slots were given up."""
        failed = sum(slot.state is SlotState.FAILED for slot in self.slots)
        return failed * 2 > len(self.slots)


def describe_end(returncode: int, *, by_us: bool = False) -> str:
    """How a process ended, in words that name the signal or our exit code.

    Args:
        returncode: as `subprocess` gives it; negative for a signal.
        by_us: whether the supervisor itself killed it.
    """
    if returncode >= 0:
        try:
            return f"exit code {returncode} ({ExitCode(returncode).name.lower()})"
        except ValueError:
            return f"exit code {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    if by_us:
        return f"killed by the supervisor ({name})"
    hint = ", perhaps the system ran out of memory" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"
