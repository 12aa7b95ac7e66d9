from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from farm.broker.buffer import MessageBuffer, Part


def part(
    kind: str, source: str = "b/t", part_id: str = "1", size: int = 3, at_s: float = 0
) -> Part:
    return Part(kind, source, part_id, b"x" * size, at_s)


def test_a_join_keeps_its_parts_and_the_time_of_the_first_and_the_last() -> None:
    buffer = MessageBuffer()
    buffer.put(("b/t", "1"), part("result", at_s=5.0))
    join = buffer.put(("b/t", "1"), part("trace", at_s=7.0))
    assert (join.opened_s, join.last_s) == (5.0, 7.0)
    assert {k: p.payload for k, p in join.parts.items()} == {"result": b"xxx", "trace": b"xxx"}


def test_the_last_arrival_is_not_moved_back_by_a_clock_that_stood_still() -> None:
    buffer = MessageBuffer()
    buffer.put(("b/t", "1"), part("result", at_s=5.0))
    assert buffer.put(("b/t", "1"), part("trace", at_s=4.0)).last_s == 5.0


def test_a_replaced_part_is_not_counted_twice() -> None:
    buffer = MessageBuffer()
    buffer.put(("b/t", "1"), part("result", size=3))
    buffer.put(("b/t", "1"), part("result", size=10))
    assert (len(buffer), buffer.open_joins, buffer.payload_bytes) == (1, 1, 10)


def test_the_oldest_is_found_in_all_and_of_one_source() -> None:
    buffer = MessageBuffer()
    for source, part_id in (("b/1", "a"), ("b/2", "b"), ("b/1", "c")):
        buffer.put((source, part_id), part("result", source, part_id))
    oldest = [buffer.oldest(), buffer.oldest("b/2"), buffer.oldest("b/none")]
    assert [join and join.key for join in oldest] == [("b/1", "a"), ("b/2", "b"), None]
    buffer.pop(("b/1", "a"))
    again = buffer.oldest("b/1")
    assert again is not None
    assert again.key == ("b/1", "c")


def test_a_join_that_is_not_there_can_be_asked_for() -> None:
    buffer = MessageBuffer()
    assert buffer.pop(("b/t", "1")) is None
    assert buffer.get(("b/t", "1")) is None
    assert buffer.oldest() is None


KEYS = st.tuples(st.sampled_from(["b/1", "b/2", "b/3"]), st.sampled_from("abc"))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.sampled_from(["result", "trace"]), st.integers(0, 50)),
        st.tuples(st.just("pop"), KEYS),
    )
)


@given(STEPS)
def test_the_counters_equal_a_recount_after_any_history(steps: list[tuple]) -> None:
    # a counter that drifts would brake the intake for ever, or let it grow without bound
    buffer, model = MessageBuffer(), {}
    for step in steps:
        key = step[1]
        if step[0] == "put":
            _, _, kind, size = step
            buffer.put(key, part(kind, key[0], key[1], size))
            model.setdefault(key, {})[kind] = size
        else:
            taken = buffer.pop(key)
            expected = model.pop(key, None)
            assert (taken and {k: len(p.payload) for k, p in taken.parts.items()}) == expected
        kinds = Counter(kind for join in model.values() for kind in join)
        assert +buffer.parts_by_kind == kinds
        assert len(buffer) == kinds.total()
        assert buffer.open_joins == len(model)
        assert buffer.payload_bytes == sum(sum(join.values()) for join in model.values())
        for source in ("b/1", "b/2", "b/3"):
            of_source = [join for (owner, _), join in model.items() if owner == source]
            assert buffer.parts_of(source) == sum(len(join) for join in of_source)
