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
    RETIRING = "retiring"  # told to leave: finishes its job, and is not started again
    FAILED = "failed"  # given up


LEGAL: dict[SlotState, frozenset[SlotState]] = {
    SlotState.WAITING: frozenset({SlotState.STARTING}),
    SlotState.STARTING: frozenset(
        {SlotState.READY, SlotState.WAITING, SlotState.RETIRING, SlotState.FAILED}
    ),
    SlotState.READY: frozenset({SlotState.WAITING, SlotState.RETIRING, SlotState.FAILED}),
    SlotState.RETIRING: frozenset(),
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
    ready_s: float = 0.0
    known_s: float = 0.0  # when the broker last counted it as READY
    leave_by_s: float = 0.0  # of a retiring one
    killed: bool = False  # a kill is on its way
    is_successor: bool = False  # until it is READY another process does its work
    last_end: str = ""

    def move(self, state: SlotState) -> None:
        """Change the state, along the table only."""
        if state not in LEGAL[self.state]:
            raise AssertionError(f"{self.name}: {self.state} ▶ {state}")
        self.state = state


class Pool:
    """See the module. Slots are numbered, but for those that are `fixed`."""

    def __init__(
        self,
        names: Collection[str],
        make_policy: Callable[[], RestartPolicy],
        *,
        ready_timeout_s: float,
        retire_timeout_s: float = 30.0,
        fixed: Collection[str] = (),
    ) -> None:
        self._make_policy = make_policy
        self.fixed = frozenset(fixed)  # names of further slots, whose number does not change
        self.slots = [Slot(name, make_policy()) for name in (*names, *fixed)]
        self.ready_timeout_s = ready_timeout_s
        self._retire_timeout_s = retire_timeout_s
        self.was_any_ready = False

    # ---- how many ---------------------------------------------------------------------------

    @property
    def kept(self) -> list[Slot]:
        """The slots that are to go on: neither leaving nor about to take another's place."""
        return [s for s in self.slots if s.state is not SlotState.RETIRING and not s.is_successor]

    @property
    def numbered(self) -> list[Slot]:
        """The kept slots but for the fixed ones."""
        return [slot for slot in self.kept if slot.name not in self.fixed]

    def named(self, name: str) -> Slot | None:
        """The kept slot of a name."""
        return next((slot for slot in self.kept if slot.name == name), None)

    def add(self, name: str, now_s: float, *, is_successor: bool = False) -> Slot:
        """One more slot, to be started now."""
        slot = Slot(name, self._make_policy(), start_at_s=now_s, is_successor=is_successor)
        self.slots.append(slot)
        return slot

    def remove(self, slot: Slot) -> None:
        """Forget a slot that has no process."""
        assert not slot.pid
        self.slots.remove(slot)

    def retire(self, slot: Slot, now_s: float) -> list[int]:
        """A slot is to go, when its process has left. Returns the pid to be told, if any."""
        if not slot.pid:
            self.remove(slot)
            return []
        slot.move(SlotState.RETIRING)
        slot.leave_by_s = now_s + self._retire_timeout_s
        return [slot.pid]

    def scale(self, count: int, now_s: float) -> list[int]:
        """Keep this many numbered slots from now on; returns the pids of who is to leave."""
        leaving: list[int] = []
        while len(kept := self.numbered) > count:
            # those that were given up first: they are none to keep
            last = max(kept, key=lambda slot: (slot.state is SlotState.FAILED, int(slot.name)))
            leaving += self.retire(last, now_s)
        while len(self.numbered) < count:
            taken = {slot.name for slot in self.slots}
            free = next(n for n in range(1, len(taken) + 2) if str(n) not in taken)
            self.add(str(free), now_s)
        return leaving

    # ---- the life of a slot -------------------------------------------------------------------

    def due(self, now_s: float) -> list[Slot]:
        """The slots to start now."""
        return [s for s in self.slots if s.state is SlotState.WAITING and s.start_at_s <= now_s]

    def started(self, slot: Slot, pid: int, now_s: float) -> None:
        """A process runs in this slot."""
        slot.move(SlotState.STARTING)
        slot.pid, slot.started_s, slot.killed = pid, now_s, False

    def note_ready(self, pids: Collection[int], now_s: float) -> None:
        """These processes are up, as the broker says."""
        for slot in self.slots:
            if slot.pid not in pids:
                continue
            slot.known_s = now_s
            if slot.state is SlotState.STARTING:
                slot.move(SlotState.READY)
                slot.ready_s = now_s
                self.was_any_ready = True

    def has_started_since(self, time_s: float) -> bool:
        """Whether a process that was started after this is not READY yet."""
        return any(s.state is SlotState.STARTING and s.started_s > time_s for s in self.slots)

    def note_silence(self, now_s: float) -> None:
        """The broker has said nothing for a while: whom it knows must be asked anew."""
        for slot in self.slots:
            slot.known_s = now_s

    def unknown(self, now_s: float, timeout_s: float) -> list[Slot]:
        """The slots whose process was READY, and which the broker does not know any more.

        A worker that was stopped while a new broker came up has never said Hello to that one, so
        its silence is noticed by nobody else. Condemn them.
        """
        return [
            slot
            for slot in self.slots
            if slot.state is SlotState.READY
            and not slot.killed
            and now_s - slot.known_s > timeout_s
        ]

    def of_pid(self, pid: int) -> Slot | None:
        """The slot that a running process sits in."""
        running = (SlotState.STARTING, SlotState.READY, SlotState.RETIRING)
        return next((s for s in self.slots if s.pid == pid and s.state in running), None)

    def exited(
        self, pid: int, returncode: int, now_s: float, *, is_out_of_memory: bool = False
    ) -> Slot | None:
        """A process ended: its slot waits for the back-off, is given up, or goes if it was to.

        Args:
            pid: of the process.
            returncode: as `subprocess` gives it.
            now_s: the time.
            is_out_of_memory: whether the kernel has just killed for want of memory.
        """
        slot = self.of_pid(pid)
        if slot is None:
            return None
        slot.last_end = describe_end(
            returncode, by_us=slot.killed, is_out_of_memory=is_out_of_memory
        )
        slot.pid = 0
        return self._ended(slot, returncode, now_s)

    def not_worth_starting(self, slot: Slot, returncode: int, now_s: float) -> None:
        """A process in this slot would end like another that has just tried: as if it had."""
        slot.move(SlotState.STARTING)
        slot.last_end = describe_end(returncode)
        self._ended(slot, returncode, now_s)

    def _ended(self, slot: Slot, returncode: int, now_s: float) -> Slot:
        if slot.state is SlotState.RETIRING:
            self.remove(slot)
            return slot
        if slot.is_successor:
            slot.move(SlotState.FAILED)
            self.remove(slot)
            return slot
        # A model that no worker could load is a wrong one, and stays wrong. Once one has loaded it,
        # the next failure may be the machine's, so it is worth the trying.
        is_wrong_model = returncode == ExitCode.MODEL and not self.was_any_ready
        # It has run here before, so what keeps it from its state directory, a full disk, may pass.
        if returncode == ExitCode.LOCKED and self.was_any_ready:
            delay_s: float | None = slot.policy.kept_from_starting()
        else:
            was_ready = slot.state is SlotState.READY
            delay_s = slot.policy.failed(now_s, ready_s=now_s - slot.ready_s if was_ready else None)
        if delay_s is None or is_wrong_model:
            slot.move(SlotState.FAILED)
        else:
            slot.move(SlotState.WAITING)
            slot.start_at_s = now_s + delay_s
        return slot

    def overdue(self, now_s: float) -> list[Slot]:
        """The slots whose process was told to leave and has not; condemn them."""
        return [
            slot
            for slot in self.slots
            if slot.state is SlotState.RETIRING and not slot.killed and now_s > slot.leave_by_s
        ]

    def never_ready(self, now_s: float) -> list[Slot]:
        """The slots whose process did not come up in time; condemn them."""
        return [
            slot
            for slot in self.slots
            if slot.state is SlotState.STARTING
            and not slot.killed
            and now_s - slot.started_s > self.ready_timeout_s
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
            (int(s.name), s.last_end)
            for s in self.slots
            if s.state is SlotState.FAILED and s.name not in self.fixed
        ]

    @property
    def told_fixed(self) -> dict[str, str]:
        """The fixed slots: how the last process ended where one was given up, else ""."""
        is_up = {s.name for s in self.kept if s.state is not SlotState.FAILED}
        last = {s.name: s.last_end for s in self.kept}
        return {n: "" if n in is_up else last.get(n, "") for n in sorted(self.fixed)}

    @property
    def is_hopeless(self) -> bool:
        """Whether more than half of the slots were given up, and of the numbered ones alone, too.

        A fixed one may lack what the others don't need: a GPU that can't be used. These serve on.
        """
        kept, numbered = self.kept, self.numbered
        return _are_most_failed(kept) and (not numbered or _are_most_failed(numbered))


def _are_most_failed(slots: list[Slot]) -> bool:
    return sum(slot.state is SlotState.FAILED for slot in slots) * 2 > len(slots)


def describe_end(returncode: int, *, by_us: bool = False, is_out_of_memory: bool = False) -> str:
    """How a process ended, in words that name the signal or our exit code.

    Args:
        returncode: as `subprocess` gives it; negative for a signal.
        by_us: whether the supervisor itself killed it.
        is_out_of_memory: whether the kernel has just killed for want of memory.
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
    if name == "SIGKILL" and is_out_of_memory:
        return "killed by the kernel: out of memory (SIGKILL)"
    return f"killed by {name}"
