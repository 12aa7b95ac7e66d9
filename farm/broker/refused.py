"""A hole that was answered, and became a dead letter because MQTT did not take the answer.

It is told where other dead letters are: in `farm stats`, and to those who watch. The notice
is not in the journal: a broker process that dies just then never publishes it. The number of those
that wait is right all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from farm.adapter import Finished, Status, Terminal
from farm.broker.outbox import Letter
from farm.log import Limited

if TYPE_CHECKING:
    from farm.broker.notices import DeadLetterNotices
    from farm.broker.observation import Observation
    from farm.broker.outbox import Outbox

MAX_OPEN: Final = 1000  # notices that MQTT has not confirmed; about 1 MB


class RefusedAnswers:
    """See the module. Times are monotonic seconds."""

    def __init__(
        self, outbox: Outbox, notices: DeadLetterNotices, observation: Observation
    ) -> None:
        self._outbox = outbox
        self._notices = notices
        self._observation = observation
        self._open: dict[int, Letter] = {}  # notices on their way, by identity
        self._log = Limited()

    def died(self, letter: Letter, why: str, now_s: float) -> None:
        """The answer of a hole was refused."""
        reason = f"its answer could not be published: {why}"
        finished = Finished(letter.source, letter.part_id, Status.FAILED, None, reason, {}, "", "")
        self._observation.died(letter.letter_id, finished, Terminal.DEAD, now_s)
        publications = self._notices.of(letter.letter_id, finished, Terminal.DEAD, now_s)
        if not publications:
            return
        if len(self._open) >= MAX_OPEN:
            self._log.warning(
                "dead_letter_not_told",
                source=letter.source,
                id=letter.part_id,
                cause=f"{MAX_OPEN} notices wait for the MQTT broker",
                effect="the number on …/dead/count and `farm dead list` have it",
            )
            return
        notice = Letter(0, letter.source, letter.part_id, None, now_s, now_s, now_s)
        self._open[id(notice)] = notice
        self._outbox.add(publications, notice)

    def told(self, letter: Letter) -> None:
        """A letter that is no hole's is done; perhaps it was a notice of ours."""
        self._open.pop(id(letter), None)
