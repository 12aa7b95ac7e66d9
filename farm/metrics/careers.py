"""The `Careers`: what the workers of one label have done in all, those that have gone included.

A worker's own count ends with its process, and several may share a label; a counter for Prometheus
must not go back when one of them leaves. Kept between two scrapes, and bounded.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MAX_PLACES: Final = 1024  # whose starts are told apart; of the longest unseen only the sum is kept

Label = tuple[str, ...]


def name_of(row: Mapping[str, Any]) -> str:
    """What a worker is called in a label: without the pid, which each of its lives has anew."""
    name, pid = row["name"], f"-{row['pid']}"
    if not name.endswith(pid):
        return str(name)
    return str(row["key"] or name.removesuffix(pid))


class Careers:
    """See the module.

    Args:
        label_of: of a worker's row in the snapshot.
    """

    def __init__(self, label_of: Callable[[Mapping[str, Any]], Label]) -> None:
        self._label_of = label_of
        self._present: dict[int, tuple[Label, int]] = {}  # jobs, by worker
        self._jobs_of_gone: Counter[Label] = Counter()
        self._places: OrderedDict[tuple[str, str], tuple[Label, int]] = OrderedDict()  # starts
        self._starts_of_gone: Counter[Label] = Counter()

    def look(self, rows: Iterable[Mapping[str, Any]]) -> tuple[Counter[Label], Counter[Label]]:
        """Jobs and starts by label, of those labels that a worker has now."""
        before, self._present = self._present, {}
        for row in rows:
            label = self._label_of(row)
            self._present[row["id"]] = label, row["jobs_done"]
            place = (row["key"], row["name"])
            _, starts = self._places.get(place, (label, 0))
            self._places[place] = label, max(starts, row["restarts"] + 1)
            self._places.move_to_end(place)
        for worker_id in before.keys() - self._present.keys():
            label, count = before[worker_id]
            self._jobs_of_gone[label] += count
        while len(self._places) > max(MAX_PLACES, len(self._present)):
            _, (label, count) = self._places.popitem(last=False)
            self._starts_of_gone[label] += count
        return (
            self._of_present(self._jobs_of_gone, self._present.values()),
            self._of_present(self._starts_of_gone, self._places.values()),
        )

    def _of_present(
        self, of_gone: Counter[Label], counts: Iterable[tuple[Label, int]]
    ) -> Counter[Label]:
        made: Counter[Label] = Counter()
        for label, count in counts:
            made[label] += count
        return Counter(
            {
                label: made[label] + of_gone[label]
                for label in dict.fromkeys(label for label, _ in self._present.values())
            }
        )
