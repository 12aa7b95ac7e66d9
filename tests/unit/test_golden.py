"""What a new worker must answer before it gets holes. Times are monotonic seconds."""

from __future__ import annotations

import math
from typing import Any

import pytest

from farm.broker.golden import KEEP_S, MAX_BYTES, Golden

VALUE = {"keypoints_mm": [1.0, 2.0], "quality": 0.5, "word": "x", "none": None}


def kept(value: Any = VALUE) -> Golden:
    golden = Golden()
    golden.keep({"trace": b"t"}, value, "hash", KEEP_S)
    return golden


def answer(value: Any, status: str = "ok", reason: str = "") -> dict[str, Any]:
    return {"status": status, "value": value, "reason": reason}


def test_without_a_golden_hole_there_is_no_check() -> None:
    assert Golden().parts == {}
    assert Golden().fault("hash", {}) == ""


def test_the_same_answer_but_for_rounding_is_right() -> None:
    # a worker on another machine must not be refused for its last digit
    value = VALUE | {"keypoints_mm": [1.0004, 1.9999]}
    assert kept().fault("hash", answer(value)) == ""
    assert kept({"a": math.nan}).fault("hash", answer({"a": math.nan})) == ""


@pytest.mark.parametrize(
    "value",
    [
        VALUE | {"keypoints_mm": [1.0, 2.5]},
        VALUE | {"keypoints_mm": [1.0]},
        VALUE | {"word": "y"},
        VALUE | {"none": 1},
        {"keypoints_mm": [1.0, 2.0]},
        [1.0, 2.0],
        None,
        True,
    ],
)
def test_another_answer_of_the_same_model_is_a_fault(value: Any) -> None:
    # prevents: a machine that computes nonsense, let in because it loads
    assert "was answered" in kept().fault("hash", answer(value))


def test_the_same_model_must_have_a_value_where_it_had_one() -> None:
    assert kept().fault("hash", answer(None, "insufficient", "too few steps"))


def test_another_model_may_say_something_else_but_must_not_fail() -> None:
    assert kept().fault("other", answer([9.9])) == ""
    assert kept().fault("other", answer(None, "insufficient")) == ""
    assert "no such key" in kept().fault("other", answer(None, "failed", "no such key"))


def test_it_is_renewed_now_and_then_and_never_too_large() -> None:
    golden = kept()
    golden.keep({"trace": b"new"}, 1, "hash", KEEP_S + 1)
    assert golden.parts == {"trace": b"t"}
    golden.keep({"trace": b"x" * (MAX_BYTES + 1)}, 1, "hash", 3 * KEEP_S)
    assert golden.parts == {"trace": b"t"}
    golden.keep(None, 1, "hash", 3 * KEEP_S)  # its bytes wait on disk
    assert golden.parts == {"trace": b"t"}
    golden.keep({"trace": b"new"}, 1, "hash", 3 * KEEP_S)
    assert golden.parts == {"trace": b"new"}


def test_a_hole_over_which_new_workers_end_is_let_go_of() -> None:
    # prevents: a farm that can start no worker any more, for the sake of a check
    golden = kept()
    assert not golden.lost()
    assert golden.fault("hash", answer(VALUE)) == ""  # this one came up
    assert not golden.lost()
    assert golden.lost()
    assert golden.parts == {}
    golden.keep({"trace": b"u"}, VALUE, "hash", 3 * KEEP_S)
    assert golden.parts == {"trace": b"u"}
