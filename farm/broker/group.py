"""The `Group`: this partition among the others of its site. Decides; sockets are its caller's.

Each partition says every few seconds who it is, on a retained mark: so one that is missing is seen
by all others, and one that lives twice ends. `farm partition add` makes a cut by two messages,
which come to each partition in the stream of its traffic: PREPARE, from which on holes are noted,
and CUT, behind which the new number is in force. docs/partitions.md says why nothing is lost or
done twice.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
from enum import Enum
from typing import TYPE_CHECKING, Any

from farm import log
from farm.adapter import Publication
from farm.broker.members import Members, as_dict
from farm.journal.records import Setting
from farm.partition import DIGEST_BYTES, Share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from farm.config.partition import PartitionConfig

SETTING = "partition"  # its key in the journal
BEAT_S = 2.0  # between two marks
STREAM_LEVEL, SAID_LEVEL = "cut", "said"


class Phase(Enum):
    """How far this partition is."""

    NEW = "new"  # nothing is recorded: it asks the others first, and takes nothing in
    JOINING = "joining"  # no tool is its own yet: it acknowledges and drops what comes
    WAITING = "waiting"  # behind the cut; it takes nothing in until it knows what others keep
    IN_FORCE = "in force"


_NEXT = {
    Phase.NEW: (Phase.JOINING, Phase.IN_FORCE),
    Phase.JOINING: (Phase.WAITING,),
    Phase.WAITING: (Phase.IN_FORCE,),
    Phase.IN_FORCE: (),
}


def stream_topic(group: str) -> str:
    """Where cuts are told: at QoS 1, to be taken in turn with the traffic."""
    return f"farm/partition/{group}/{STREAM_LEVEL}"


def said_prefix(group: str) -> str:
    """How the topics begin on which partitions tell of themselves: retained, at QoS 0."""
    return f"farm/partition/{group}/{SAID_LEVEL}/"


class Group:
    """See the module. `now_s` is monotonic.

    Args:
        config: this partition's.
        now_s: when it begins.
        utc_s: the same in UTC: of two with one index, the younger ends.
        record: has a setting written to the journal.
        say: sends something at QoS 0, now or never.
    """

    def __init__(
        self,
        config: PartitionConfig,
        now_s: float,
        *,
        utc_s: float,
        record: Callable[[Setting], object],
        say: Callable[[Publication], object],
    ) -> None:
        self.index, self._configured = config.index, config.count
        self.share = Share(config.index, config.count)
        self.phase = Phase.NEW
        self.stream = stream_topic(config.group)
        self.prefix = said_prefix(config.group)
        self._name = config.group
        self._record, self._say = record, say
        self._token = secrets.token_hex(8)
        self._since_s = utc_s
        self.members = Members(config.index, self._token, utc_s, now_s)
        self._beat = 0
        self._next_beat_s: float | None = None  # None: there is no connection
        self._prepared: dict[str, Any] = {}  # the PREPARE in force: id, from, to, at_s
        self._vowed = ""  # the id of the one that every other partition may rely on
        self._cut_id = ""
        self._former = 0  # how many there were before
        self._lists: dict[int, tuple[str, set[bytes]]] = {}  # of former owners, with their cut
        self._is_list_told = False  # what we keep ourselves
        self._log = log.get()

    # ---- the journal ------------------------------------------------------------------------

    def begin(self, kept: str | None) -> None:
        """Go on where a former life of this partition was; `kept` is its setting, if it had one."""
        told = as_dict(kept)
        if not told:
            return
        share = self.share
        self.phase, share.count = Phase(told["phase"]), told["count"]
        share.is_joining = self.phase is not Phase.IN_FORCE
        share.kept_here = unpacked(told["kept_here"])
        share.kept_elsewhere = unpacked(told["kept_elsewhere"])
        self._cut_id, self._former = told["cut"], told["former"]
        self._prepared = told["prepared"]
        if share.count != self._configured and self.phase is Phase.IN_FORCE:
            self._log.warning(
                "partition_count_differs",
                in_force=share.count,
                configured=self._configured,
                cure="write partition.count as it is in force; `farm partition add` changes that",
            )

    def go_on(self, known: Iterable[tuple[str, str]]) -> None:
        """Behind `begin`, when it is known what waits and what ended not long ago."""
        if self._prepared:
            self.share.prepare(self._prepared["to"], known)

    @property
    def prepared_at_s(self) -> float | None:
        """UTC since when holes are noted; None: they are not."""
        return float(self._prepared["at_s"]) if self._prepared else None

    def _keep(self) -> None:
        share = self.share
        told = {
            "phase": self.phase.value,
            "count": share.count,
            "cut": self._cut_id,
            "former": self._former,
            "prepared": self._prepared,
            "kept_here": packed(share.kept_here),
            "kept_elsewhere": packed(share.kept_elsewhere),
        }
        self._record(Setting(SETTING, json.dumps(told)))

    def _become(self, phase: Phase) -> None:
        if phase is not self.phase:
            assert phase in _NEXT[self.phase], (self.phase, phase)
            self.phase = phase
        self.share.is_joining = phase is not Phase.IN_FORCE
        self._keep()
        self._next_beat_s = 0.0 if self._next_beat_s is not None else None
        told = {"index": self.index, "count": self.share.count, "phase": phase.value}
        self._log.info("partition", group=self._name, **told)

    # ---- what comes ---------------------------------------------------------------------------

    @property
    def holds(self) -> bool:
        """Whether nothing may be taken in now."""
        return self.phase in (Phase.NEW, Phase.WAITING)

    @property
    def has_rival(self) -> bool:
        """Whether this partition runs twice, and is the one to end."""
        return self.members.has_younger_self

    def connected(self, now_s: float) -> None:
        """A connection to MQTT stands: all that others have retained comes now, then our mark."""
        self._next_beat_s = now_s
        self._vowed = ""  # an acknowledgement may have gone with the former connection
        self.members.listen_from(now_s)

    def disconnected(self) -> None:
        """It is gone."""
        self._next_beat_s = None

    def heard(self, topic: str, payload: bytes, now_s: float) -> None:
        """Another partition, or this one, told of itself."""
        what, _, number = topic.removeprefix(self.prefix).partition("/")
        told = as_dict(payload)
        if not told or not number.isdecimal():
            return
        if what == "mark":
            is_echo = self.members.heard(int(number), told, now_s)
            if self.phase is Phase.NEW and is_echo:
                self._find_place()
        elif what == "kept" and self.share.is_joining:
            with contextlib.suppress(KeyError, ValueError):  # no list of ours
                self._lists[int(number)] = (str(told["cut"]), unpacked(told["keys"]))
            if self.phase is Phase.WAITING:
                self._look_for_lists()

    def _find_place(self) -> None:
        """All marks are known: is this partition one of those that run, or added to them?"""
        counts = self.members.counts(Phase.IN_FORCE.value)
        if not counts or self._configured in counts:
            self._become(Phase.IN_FORCE)
        elif max(counts) <= self.index:
            self.share.count = max(counts)
            self._become(Phase.JOINING)

    def arrived(
        self, payload: bytes, known: Callable[[], Iterable[tuple[str, str]]], utc_s: float
    ) -> None:
        """A message of the stream, in its turn; it may be acknowledged like any other.

        Args:
            payload: the message.
            known: gives the holes that wait, or ended not long ago.
            utc_s: the time.
        """
        told = as_dict(payload)
        cut_id = str(told.get("id", ""))
        if not cut_id or cut_id == self._cut_id:
            return  # rubbish, or this cut once more
        match told.get("do"):
            case "prepare":
                self._prepare(cut_id, told, known, utc_s)
            case "cut" if cut_id == self._prepared.get("id"):
                self._cut(cut_id)
            case "give up" if cut_id == self._prepared.get("id"):
                self.share.give_up()
                self._prepared = {}
                self._keep()

    def _prepare(
        self,
        cut_id: str,
        told: dict[str, Any],
        known: Callable[[], Iterable[tuple[str, str]]],
        utc_s: float,
    ) -> None:
        start, end = int(told.get("from", 0)), int(told.get("to", 0))
        if start != self.share.count or end <= start or self.holds:
            return  # who waits for our vow will say so
        if cut_id == self._prepared.get("id"):
            return  # it came again, and what was noted stays
        self._prepared = {"id": cut_id, "from": start, "to": end, "at_s": utc_s}
        self.share.prepare(end, known())
        self._keep()

    def _cut(self, cut_id: str) -> None:
        self._cut_id, self._former = cut_id, self.share.count
        self.share.cut()
        self._prepared = {}
        self._is_list_told = False
        if self.index >= self.share.count:
            self._become(Phase.JOINING)  # others were added, and this one was not among them
        elif self.phase is Phase.JOINING:
            self._become(Phase.WAITING)
            self._look_for_lists()
        else:
            self._become(Phase.IN_FORCE)

    def _look_for_lists(self) -> None:
        """Once all former owners have told what they keep, the rest is ours."""
        if self._missing_lists():
            return
        for index in range(self._former):
            self.share.kept_elsewhere |= self._lists[index][1]
        self._lists = {}
        self._become(Phase.IN_FORCE)

    def _missing_lists(self) -> list[int]:
        of_this_cut = {i for i, (cut_id, _) in self._lists.items() if cut_id == self._cut_id}
        return [i for i in range(self._former) if i not in of_this_cut]

    # ---- what is said -------------------------------------------------------------------------

    def vow(self, payload: bytes) -> Publication | None:
        """What to say right behind the acknowledgement of a message of the stream, if anything.

        It tells who makes the cut that all before that message is acknowledged, and that holes are
        noted from it on.
        """
        if not self._prepared or as_dict(payload).get("id") != self._prepared["id"]:
            return None
        self._vowed = self._prepared["id"]
        return self._mark()

    def unvow(self) -> None:
        """It could not be said there: the message comes again."""
        self._vowed = ""

    def tick(self, now_s: float) -> None:
        """Tell the others that we live."""
        if self._next_beat_s is None or now_s < self._next_beat_s:
            return
        self._next_beat_s = now_s + BEAT_S
        self._say(self._mark())
        is_owed = not self._is_list_told or self.members.has(Phase.WAITING.value)
        if is_owed and self.index < self._former and self.phase is Phase.IN_FORCE:
            self._is_list_told = True
            told = {"cut": self._cut_id, "keys": packed(self.share.kept_here)}
            topic = f"{self.prefix}kept/{self.index}"
            self._say(Publication(topic, json.dumps(told).encode(), retain=True))

    def _mark(self) -> Publication:
        self._beat += 1
        told = {
            "token": self._token,
            "beat": self._beat,
            "since_s": self._since_s,
            "phase": self.phase.value,
            "count": self.share.count,
            "configured": self._configured,
            "prepared": self._vowed,
            "cut": self._cut_id,
        }
        return Publication(f"{self.prefix}mark/{self.index}", json.dumps(told).encode(), True)

    def problems(self, now_s: float) -> list[str]:
        """What is wrong with the group, as sentences."""
        found = []
        if self.phase is Phase.NEW and self._next_beat_s is not None:
            found.append(self._why_new())
        elif self.phase is Phase.JOINING:
            found.append("no tool is this partition's yet: farm partition add")
        elif self.phase is Phase.WAITING:
            missing = ", ".join(map(str, self._missing_lists()))
            found.append(f"waits for partition {missing} to pass the cut: start it")
        if self._next_beat_s is not None:
            found += self.members.problems(self.share.count, now_s)
        return found

    def _why_new(self) -> str:
        counts = self.members.counts(Phase.IN_FORCE.value)
        if counts:
            others = " and ".join(map(str, sorted(counts)))
            return (
                f"partition.count is {self._configured} here and {others} elsewhere: nothing is "
                "taken in until it is the same, or this one's index is beyond (farm partition add)"
            )
        return f"waits for its own mark: allow {self.prefix}# in the MQTT broker's access list"

    def snapshot(self, now_s: float) -> dict[str, Any]:
        """What `farm stats` shows."""
        return {
            "group": self._name,
            "index": self.index,
            "count": self.share.count,
            "configured": self._configured,
            "phase": self.phase.value,
            "kept_here": len(self.share.kept_here),
            "kept_elsewhere": len(self.share.kept_elsewhere),
            "silent_s": self.members.silent_s(now_s),
        }


def packed(keys: set[bytes]) -> str:
    """Digests as text."""
    return base64.b64encode(b"".join(sorted(keys))).decode()


def unpacked(text: str) -> set[bytes]:
    """The digests of `packed`.

    Raises:
        ValueError: it is none.
    """
    joined = base64.b64decode(text, validate=True)
    if len(joined) % DIGEST_BYTES:
        raise ValueError(f"{len(joined)} bytes are no whole number of digests")
    return {joined[at : at + DIGEST_BYTES] for at in range(0, len(joined), DIGEST_BYTES)}
