"""The `Gate`: whether whoever came through a door may say what he says.

A decision without I/O. The doorkeeper has looked at the key; here it is about the message: a worker
speaks for itself alone, of jobs that it was sent (it has their tickets), and gives no orders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from farm import wire
from farm.errors import ForgedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from farm.broker.ledger import Ledger
    from farm.broker.roster import Roster

_OF_WORKERS: Final = (wire.Hello, wire.Ready, wire.Heartbeat, wire.Fetch, wire.Bye)
_OF_ONE_WORKER: Final = (
    *(wire.Ready, wire.Heartbeat),
    *(wire.Claim, wire.Bounce, wire.Result, wire.Bye),
)


class Gate:
    """See the module."""

    def __init__(self, roster: Roster, ledger: Ledger) -> None:
        self._roster = roster
        self._ledger = ledger

    def check(self, message: wire.Message, peer: str) -> None:
        """Let a message pass from `peer` (the name of his key; "": from this machine).

        Raises:
            ForgedError: he has no right to say that.
        """
        if fault := self._pretence(message, peer) or (peer and self._presumption(message, peer)):
            raise ForgedError(fault)

    def _presumption(self, message: wire.Message, peer: str) -> str:
        """Whether he says more than a worker of another machine may."""
        match message:
            case wire.Claim(_, job_ids, tickets) | wire.Bounce(_, job_ids, tickets):
                return self._forged(message, job_ids, tickets)
            case wire.Result():
                return self._forged(message, [message.job_id], [message.ticket])
        if isinstance(message, _OF_WORKERS):
            return ""
        return f"{type(message).__name__} from the key {peer}: workers give no orders"

    def _pretence(self, message: wire.Message, peer: str) -> str:
        """Whether he speaks for somebody else."""
        if not isinstance(message, _OF_ONE_WORKER):
            return ""
        worker = self._roster.get(message.worker_id)
        if worker is None or worker.key == peer:
            return ""
        who = f"the key {peer}" if peer else "this machine"
        return f"{type(message).__name__} from {who} for another worker, {worker.name}"

    def _forged(self, message: wire.Message, job_ids: list[int], tickets: list[int]) -> str:
        if len(job_ids) == len(tickets) and all(self._are_right(job_ids, tickets)):
            return ""
        return f"{type(message).__name__} for a job that it was not sent"

    def _are_right(self, job_ids: list[int], tickets: list[int]) -> Iterable[bool]:
        for job_id, ticket in zip(job_ids, tickets, strict=True):
            entry = self._ledger.get(job_id)
            yield entry is None or entry.ticket == ticket  # of one that has ended nothing comes
