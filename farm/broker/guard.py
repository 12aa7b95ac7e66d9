"""The guards: an adapter of the user's may raise anything; it must not end the broker.

Owns the boundary between the broker and the traffic's own code. What comes wrong from there becomes
a `ReadError`, an error answer, an empty description; each is counted and logged with its traceback.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from farm.adapter import Answer, Finished, Need, Publication, Status, Terminal
from farm.broker.intake import MAX_CACHED_TOPIC_CHARS
from farm.broker.topics import matches
from farm.errors import ReadError
from farm.log import Limited

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

    from farm.adapter import Adapter, Answerer, Route

MAX_ROUTES = 50_000  # three topics of each of 10 000 tools, and some more
MAX_TEXT_CHARS = 1000  # of what names a hole: it goes into topics, logs and the head of each job


class GuardedAdapter:
    """An adapter's methods for the broker. Counts `adapter_failures`."""

    def __init__(self, adapter: Adapter, *, max_part_bytes: int, counts: Counter[str]) -> None:
        self._adapter = adapter
        self._filters = tuple(adapter.topic_filters())
        self._routes: dict[str, Route] = {}
        self._max_part_bytes = max_part_bytes
        self._counts = counts
        self._log = Limited()

    def route(self, topic: str) -> Route | None:
        """The kind and source of a topic; None when it is not ours, or the adapter failed.

        The adapter is asked once for each topic; for a very long one each time.
        """
        known = self._routes.get(topic)
        if known is not None:
            return known
        try:
            route = self._adapter.route(topic)
            if route is not None:
                _check_text("kind", route.kind)
                _check_text("source", route.source)
        except Exception as error:  # noqa: BLE001
            self._blame(error, topic=topic)
            return None
        # Strangers are not kept: they could crowd out the tools.
        if route is not None and len(topic) <= MAX_CACHED_TOPIC_CHARS:
            if len(self._routes) >= MAX_ROUTES:
                self._routes.clear()
            self._routes[topic] = route
        return route

    def is_input(self, topic: str) -> bool:
        """Whether what is published there would come back as input."""
        if not any(matches(each, topic) for each in self._filters):
            return False
        return self.route(topic) is not None

    def part_id(self, kind: str, payload: bytes) -> str | None:
        """The id that joins this part with others; None for optional kinds only.

        Raises:
            ReadError: the part is too large, or the adapter found none, or failed.
        """
        if len(payload) > self._max_part_bytes:
            raise ReadError(
                f"The {kind} message has {len(payload)} bytes, "
                f"at most {self._max_part_bytes} are taken"
            )
        try:
            part_id = self._adapter.part_id(kind, payload)
            if part_id is not None:
                _check_text("id", part_id)
        except ReadError:
            raise
        except Exception as error:
            self._blame(error, kind=kind)
            raise ReadError(f"The adapter failed: {type(error).__name__}: {error}") from error
        if part_id is None and self._adapter.needs.get(kind) is not Need.OPTIONAL:
            raise ReadError(f"The {kind} message does not say what it belongs to")
        return part_id

    def describe(self, parts: Mapping[str, bytes]) -> Mapping[str, Any]:
        """What the answer must repeat of the parts; empty when the adapter failed."""
        try:
            told = self._adapter.describe(parts)
            _check_mapping(told)
        except Exception as error:  # noqa: BLE001
            self._blame(error, kinds=sorted(parts))
            return {}
        return told

    def _blame(self, error: Exception, **fields: Any) -> None:
        self._counts["adapter_failures"] += 1
        self._log.warning("adapter_failed", exc_info=error, **fields)


class GuardedAnswerer:
    """An `Answerer` that never raises. Counts `answerer_failures`."""

    def __init__(self, answerer: Answerer, counts: Counter[str]) -> None:
        self._answerer = answerer
        self._counts = counts
        self._log = Limited()

    def answer(self, finished: Finished, now_s: float) -> Answer:
        """The answer; where that fails, the one to a failed join; where that fails too, none."""
        try:
            answer = self._answerer.answer(finished, now_s)
            _check_publications(answer.publications)
        except Exception as error:  # noqa: BLE001
            self._blame(finished.source, finished.part_id, error)
            if finished.status is Status.FAILED:
                return Answer(Terminal.DEAD, ())
            reason = f"The answer could not be worded: {type(error).__name__}: {error}"
            failed = finished._replace(status=Status.FAILED, value=None, reason=reason)
            return self.answer(failed, now_s)
        return answer

    def reject(self, route: Route, reason: str) -> tuple[Publication, ...]:
        """The error messages for a part that belongs to no join; none when that fails."""
        try:
            publications = self._answerer.reject(route, reason)
            _check_publications(publications)
        except Exception as error:  # noqa: BLE001
            self._blame(route.source, "", error)
            return ()
        return tuple(publications)

    def _blame(self, source: str, part_id: str, error: Exception) -> None:
        self._counts["answerer_failures"] += 1
        self._log.warning("answerer_failed", source=source, id=part_id, exc_info=error)


def _check_text(what: str, text: object) -> None:
    """Whether it can go over our wire and into the journal.

    Raises:
        TypeError, ValueError: it can't.
    """
    if not isinstance(text, str):
        raise TypeError(f"the {what} is {type(text).__name__}, not str")
    if len(text) > MAX_TEXT_CHARS:
        raise ValueError(f"the {what} has {len(text)} characters, at most {MAX_TEXT_CHARS} go")
    text.encode()  # lone surrogates are no text


def _check_mapping(told: object) -> None:
    if not isinstance(told, Mapping):
        raise TypeError(f"describe gave {type(told).__name__}, not a mapping")


def _check_publications(publications: Iterable[object]) -> None:
    for each in publications:
        if not (
            isinstance(each, Publication)
            and isinstance(each.topic, str)
            and isinstance(each.payload, bytes)
        ):
            raise TypeError(f"{each!r:.200} is no Publication of a str and bytes")
