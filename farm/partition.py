"""Which partition answers a hole: by the hash of its tool, and by what was under way at a cut.

A decision without I/O. A tool's owner is found by rendezvous hashing (Thaler, Ravishankar, 1998):
each partition has a weight for each tool, the heaviest owns it. So a partition that is added takes
tools from all others, and none of theirs changes hands. A *cut* is the moment between two messages
at which a new number of partitions is in force; holes that were known to the former owner before it
stay with that one, whatever comes of them later (docs/partitions.md has the argument).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_SOURCES = 50_000  # whose owner is remembered
DIGEST_BYTES = 8  # of a hole's key: among a million, two are alike once in 37 million cuts


def owner(source: str, count: int) -> int:
    """The partition, of `count`, that a source belongs to. The same on every machine."""
    name = source.encode()

    def weight(index: int) -> bytes:
        return blake2b(name, digest_size=8, key=index.to_bytes(4, "big")).digest()

    return max(range(count), key=weight)


def digest(source: str, part_id: str) -> bytes:
    """What a hole is known again by on both sides of a cut."""
    text = f"{source}\0{part_id}".encode()
    return blake2b(text, digest_size=DIGEST_BYTES).digest()


class Share:
    """What one partition takes in.

    Args:
        index: of this partition.
        count: how many there are in force.
    """

    def __init__(self, index: int, count: int) -> None:
        self.index = index
        self.count = count
        self.is_joining = False  # there is no cut yet that gives it anything
        self.kept_here: set[bytes] = set()  # holes of tools that went to others
        self.kept_elsewhere: set[bytes] = set()  # holes of our tools that their former owners keep
        self._next_count = 0  # the cut that is prepared; 0: none is
        self._noted: set[bytes] = set()
        self._owners: dict[str, int] = {}

    def owns(self, source: str) -> bool:
        """Whether a tool is this partition's."""
        if self.is_joining:
            return False
        found = self._owners.get(source)
        if found is None:
            if len(self._owners) >= MAX_SOURCES:
                self._owners.clear()
            found = self._owners[source] = owner(source, self.count)
        return found == self.index

    @property
    def asks_for_id(self) -> bool:
        """Whether it matters which hole a message belongs to, and not the tool alone."""
        return bool(self._next_count or self.kept_here or self.kept_elsewhere)

    def takes(self, source: str, part_id: str | None) -> bool:
        """Whether a message is this partition's.

        Args:
            source: its tool.
            part_id: the hole it belongs to; None: it does not say.
        """
        is_ours = self.owns(source)
        if part_id is None or self.is_joining:
            return is_ours
        if not is_ours and not self.kept_here:
            return False
        key = digest(source, part_id)
        if is_ours and key in self.kept_elsewhere:
            return False
        if not is_ours and key not in self.kept_here:
            return False
        if self._next_count:
            self._note(source, key)
        return True

    def prepare(self, count: int, known: Iterable[tuple[str, str]]) -> None:
        """From now on every hole is noted whose tool goes elsewhere with `count` partitions.

        Args:
            count: how many there will be.
            known: source and part id of those that wait, or ended not long ago.
        """
        self._next_count, self._noted = count, set()
        if self.is_joining:
            return
        for source, part_id in known:
            self._note(source, digest(source, part_id))

    def give_up(self) -> None:
        """The cut that was prepared will not be."""
        self._next_count, self._noted = 0, set()

    def cut(self) -> None:
        """The number that was prepared is in force: what was noted stays here."""
        assert self._next_count
        self.count = self._next_count
        self.kept_here |= self._noted
        self._owners.clear()
        self.give_up()

    def _note(self, source: str, key: bytes) -> None:
        if owner(source, self._next_count) != self.index:
            self._noted.add(key)
