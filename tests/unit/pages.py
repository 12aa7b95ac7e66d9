"""A page without a process: a journal of simulated holes, and the application over it."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import journals
from starlette.testclient import TestClient

from farm.adapter import load_adapter
from farm.config import Config
from farm.journal.tail import PIECE
from farm.page.app import Site, about
from farm.page.feed import Feed
from farm.page.following import MAX_ASKED, Follower
from farm.page.gate import Gate
from farm.page.index import HoleIndex
from farm.page.looks import Looks
from farm.page.origin import Origin
from farm.page.statics import Statics
from farm.simulation.drilled import Recipe, drill
from farm.viewer import viewer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from farm.adapter import Adapter
    from farm.journal.store import Store

KEYPOINTS = [6.0, 12.0, 21.25]
VALUE = {"keypoints_mm": KEYPOINTS, "sigma_mm": [0.02, 0.04, 0.08], "quality": 0.875}
BASE = "http://127.0.0.1:8780"


@functools.cache
def simulated() -> dict[str, bytes]:
    """The messages of one simulated hole, by kind."""
    messages = drill(Recipe("V8", "2025-03"), seed=7).messages
    found = {"result": messages.result, "trace": messages.trace}
    return found if messages.heads is None else found | {"heads": messages.heads}


def drilled_hole(
    first_id: int,
    *,
    source: str = journals.SOURCE,
    part_id: str = "7",
    value: Any = VALUE,
    at_s: float = 1000.0,
    kinds: Sequence[str] = ("result", "trace"),
    **answer: Any,
) -> list[Any]:
    """All records of a hole with real messages that was answered and confirmed.

    The hole's id is first_id + 9.
    """
    chosen = {kind: simulated()[kind] for kind in kinds}
    named = {"source": source, "part_id": part_id}
    messages = [
        journals.message(first_id + i, payload, kind=kind, at_s=at_s + i / 100, **named)
        for i, (kind, payload) in enumerate(chosen.items())
    ]
    parts = {kind: first_id + i for i, kind in enumerate(chosen)}
    hole_id = first_id + 9
    terminal = answer.get("terminal", "published")
    return [
        *messages,
        journals.opened(hole_id, parts, at_s=at_s + 1, **named),
        journals.answered(hole_id, at_s=at_s + 1.1, value=value, **answer),
        journals.ended(hole_id, at_s=at_s + 1.2, terminal=terminal),
    ]


class Page:
    """The application over a state directory, its index brought up to the journal."""

    def __init__(
        self,
        state_dir: Path,
        *,
        token: str | None = None,
        capacity: int = 1000,
        max_viewers: int = 2,
        adapter: Adapter | None = None,
        story_of: Callable[[str, str, str], Any] = lambda *_: None,
    ) -> None:
        config = Config()
        viewer = viewer_of(adapter or load_adapter(config))
        self.index = HoleIndex(capacity, frozenset({"result", "trace"}), viewer.figures)
        self.follower = Follower(state_dir, capacity)
        self.feed = Feed(max_viewers, dict)
        self.looks = Looks(state_dir, viewer, story_of)
        site = Site(
            index=self.index,
            looks=self.looks,
            feed=self.feed,
            gate=Gate(token, "127.0.0.1"),
            statics=Statics(about(self.index, viewer)),
            executor=ThreadPoolExecutor(1),
            origin=Origin(config, state_dir, None),
        )
        self.client = TestClient(site.app(), base_url=BASE, follow_redirects=False)
        self.look()

    def look(self) -> str:
        """Bring the index up to the journal; returns the problem."""
        asked = self.index.unfinished(MAX_ASKED)
        seen = self.follower.look(
            after=self.index.newest_id, asked=asked, known=self.index.in_turn(PIECE)
        )
        if seen.is_other:
            self.index.clear()
        for piece in seen.pieces:
            self.index.put(piece)
        self.index.forget(seen.gone)
        return seen.problem

    def get(self, path: str, **parameters: Any) -> Any:
        """The data of a path, which must be there."""
        response = self.client.get(path, params=parameters)
        assert response.status_code == 200, response.text
        return response.json()


def written(store: Store, *holes: list[Any]) -> None:
    for records in holes:
        store.write(records)
