"""What a former life of the broker has left in the journal, taken up where it was.

`farm.journal.recovery` finds it, the flow puts each thing at its station; here they are joined.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from farm import log
from farm.broker.group import SETTING
from farm.errors import JournalError
from farm.journal.journal import Journal

if TYPE_CHECKING:
    from farm.broker.parts import Parts


def take_up(parts: Parts) -> bool:
    """Go on with what is open in the journal, and start it; whether intake was paused.

    Raises:
        JournalError: it can't be read.
    """
    journal, flow, group = parts.journal, parts.flow, parts.group
    if not isinstance(journal, Journal):
        return False
    logger = log.get()
    now_s = time.monotonic()
    past_s = flow.remembers_s
    if group is not None:
        group.begin(journal.setting(SETTING))
        if (since_s := group.prepared_at_s) is not None:
            past_s += max(parts.wall.utc() - since_s, 0.0)
    found = journal.recover(
        optional_kinds=flow.optional_kinds,
        past_s=past_s,
        judged_since_s=parts.wall.utc() - flow.judges_s,
    )
    for sentence in found.damaged:
        logger.error("journal_damaged", what=sentence)
    journal.start()
    flow.resume(found, now_s)
    if group is not None:
        group.go_on(flow.correlator.known_keys())
    _find_golden_hole(parts, journal, now_s)
    logger.info(
        "journal_recovered",
        life=journal.life,
        unpaired=len(found.waiting),
        unanswered=len(found.holes),
        unconfirmed=len(found.letters),
        dead_letters=found.dead_letters,
        paused=found.is_paused,
        took_s=round(time.monotonic() - now_s, 3),
    )
    return found.is_paused


def _find_golden_hole(parts: Parts, journal: Journal, now_s: float) -> None:
    newest = journal.newest_value()
    if newest is None:
        return
    messages, value, model_hash = newest
    with contextlib.suppress(JournalError):  # then the next hole that is answered will do
        raw = journal.parts(messages)
        parts.flow.dispatcher.golden.keep(raw, value, model_hash, now_s)
