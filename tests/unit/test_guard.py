"""An adapter of the user's that gives what it should not: it costs a message, never the broker."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from fakes import FakeAdapter, FakeAnswerer

import farm.broker.guard as guard_module
from farm.adapter import Answer, Finished, Publication, Route, Status, Terminal
from farm.broker.guard import MAX_TEXT_CHARS, GuardedAdapter, GuardedAnswerer
from farm.errors import ReadError

FINISHED = Finished("box/tool", "7", Status.OK, "42 mm", "", {}, "m1", "h1")
ODD_TEXTS = [7, b"7", "\ud800", "x" * (MAX_TEXT_CHARS + 1)]


def guarded(adapter: FakeAdapter) -> tuple[GuardedAdapter, Counter[str]]:
    counts: Counter[str] = Counter()
    return GuardedAdapter(adapter, max_part_bytes=1000, counts=counts), counts


@pytest.mark.parametrize("odd", ODD_TEXTS, ids=lambda value: repr(value)[:10])
def test_an_id_that_can_not_go_on_is_refused(odd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # prevents: a crash of the journal's writer, or of the dispatch, again after each restart
    adapter = FakeAdapter()
    monkeypatch.setattr(adapter, "part_id", lambda *_: odd)
    guard, counts = guarded(adapter)
    with pytest.raises(ReadError, match="The adapter failed"):
        guard.part_id("result", b"7:")
    assert counts["adapter_failures"] == 1


@pytest.mark.parametrize("odd", ODD_TEXTS, ids=lambda value: repr(value)[:10])
def test_a_source_that_can_not_go_on_is_none_of_ours(
    odd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = FakeAdapter()
    monkeypatch.setattr(adapter, "route", lambda _: Route("result", odd))
    guard, counts = guarded(adapter)
    assert guard.route("box/tool/result") is None
    assert counts["adapter_failures"] == 1


def test_a_description_that_is_none_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = FakeAdapter()
    monkeypatch.setattr(adapter, "describe", lambda _: None)
    guard, counts = guarded(adapter)
    assert guard.describe({}) == {}
    assert counts["adapter_failures"] == 1


@pytest.mark.parametrize(
    "odd",
    [
        None,
        Answer(Terminal.PUBLISHED, ("text",)),  # type: ignore[arg-type]
        Answer(Terminal.PUBLISHED, (Publication("topic", "text"),)),  # type: ignore[arg-type]
        Answer(Terminal.PUBLISHED, (Publication(7, b"bytes"),)),  # type: ignore[arg-type]
    ],
    ids=["None", "no publication", "text", "topic"],
)
def test_an_answer_that_can_not_be_published_is_a_failure(
    odd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answerer, counts = FakeAnswerer(), Counter[str]()
    good = answerer.answer

    def answer(finished: Finished, now_s: float) -> Any:
        return odd if finished.status is Status.OK else good(finished, now_s)

    monkeypatch.setattr(answerer, "answer", answer)
    found = GuardedAnswerer(answerer, counts).answer(FINISHED, 0.0)
    assert found.terminal is Terminal.DEAD
    assert b"could not be worded" in found.publications[0].payload
    assert counts["answerer_failures"] == 1


def test_errors_that_are_no_publications_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    answerer, counts = FakeAnswerer(), Counter[str]()
    monkeypatch.setattr(answerer, "reject", lambda *_: ["no id"])
    assert GuardedAnswerer(answerer, counts).reject(Route("result", "box/tool"), "no id") == ()
    assert counts["answerer_failures"] == 1


def test_an_adapter_is_asked_once_for_a_topic_and_strangers_are_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A topic taken apart for every message; or made-up topics that fill the memory."""
    monkeypatch.setattr(guard_module, "MAX_ROUTES", 10)
    asked: list[str] = []

    class Counting(FakeAdapter):
        def route(self, topic: str) -> Route | None:
            asked.append(topic)
            return super().route(topic)

    guarded = GuardedAdapter(Counting(), max_part_bytes=100, counts=Counter())
    for number in range(35):
        topic = f"box/tool-{number}/result"
        for _ in range(2):
            assert guarded.route(topic) == Route("result", f"box/tool-{number}")
            assert guarded.route(f"box/tool-{number}/other") is None
        assert asked.count(topic) == 1
        assert len(guarded._routes) <= 10


def test_a_very_long_topic_is_ours_and_not_kept() -> None:
    """50 000 topics of 60 kB each, which take 3 GB for ever."""
    guard, _ = guarded(FakeAdapter())
    source = "box/" + "t" * (MAX_TEXT_CHARS - 4)
    for _ in range(2):
        assert guard.route(f"{source}/result") == Route("result", source)
    assert not guard._routes
