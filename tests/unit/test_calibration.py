"""Which runtime is taken on a machine: a decision, as a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from farm.models.calibration import MAX_OFF_MM, MEAN_OFF_MM, Trial, choose, fault

NAN = float("nan")


def trial(name, at_1, at_8=None, **more):
    return Trial(name, hole_ms={1: at_1, 8: at_8 or at_1}, **more)


FROZEN = trial("frozen", 2.0)
ABSENT = Trial("onnx", "it is not installed")


@pytest.mark.parametrize(
    ("trials", "taken"),
    [
        ([FROZEN], "frozen"),
        ([FROZEN, trial("onnx", 1.0), trial("int8", 0.5)], "int8"),
        ([FROZEN, trial("onnx", 1.0), trial("int8", 1.2)], "onnx"),
        ([FROZEN, trial("onnx", 1.0), trial("int8", 0.97)], "onnx"),
        ([FROZEN, trial("onnx", 2.05), trial("int8", 3.0)], "onnx"),
        ([trial("int8", 0.2), trial("onnx", 4.0), FROZEN], "int8"),
        ([FROZEN, ABSENT, trial("int8", 1.0)], "int8"),
        ([FROZEN, ABSENT, Trial("int8", "it is not installed")], "frozen"),
        ([FROZEN, trial("onnx", 0.5, 3.0), trial("int8", 2.0, 1.0)], "int8"),
    ],
    ids=["alone", "fastest", "a slow int8", "no gain worth it", "safer of a tie",
         "order says nothing", "one is absent", "all are absent", "both sizes count"],
)  # fmt: skip
def test_the_fastest_safe_one_is_taken(trials, taken):
    # Prevents a fast CPU from running the slow form, and a slow one from running the fast form.
    choice = choose(trials)
    assert choice.runtime == taken
    assert set(choice.reasons) == {t.name for t in trials}
    assert choice.reasons[taken].startswith("taken: ")
    assert not any(why.startswith("taken") for n, why in choice.reasons.items() if n != taken)


@pytest.mark.parametrize(
    ("flaw", "words"),
    [
        ({"reason": "it is not installed"}, "it is not installed"),
        ({"is_finite": False}, "not finite"),
        ({"flips": 1}, "1 keypoints"),
        ({"off_mm": 1.01 * MAX_OFF_MM}, "off by 0.101 mm"),
        ({"off_mm": NAN}, "off by nan"),
        ({"mean_off_mm": 1.1 * MEAN_OFF_MM}, "on average"),
        ({"mean_off_mm": NAN}, "on average"),
        ({"quality_off": 0.2}, "Quality"),
    ],
)
def test_a_fast_one_that_is_wrong_is_not_taken(flaw, words):
    # Prevents depths that depend on which processor a worker happened to run on.
    fast = replace(trial("int8", 0.1), **flaw)
    assert words in fault(fast)
    choice = choose([FROZEN, fast])
    assert choice.runtime == "frozen"
    assert words in choice.reasons["int8"]


def test_at_the_limit_is_within_it():
    # Prevents limits that mean less than they say.
    assert not fault(trial("int8", 1.0, off_mm=MAX_OFF_MM, mean_off_mm=MEAN_OFF_MM))


def test_where_nothing_is_safe_nothing_is_taken():
    # Prevents a made-up answer where there is none: the caller falls back, and says so.
    with pytest.raises(ValueError, match="not installed"):
        choose([ABSENT])


def test_the_reason_has_the_numbers():
    # Prevents "slower" without by how much.
    reasons = choose([FROZEN, trial("onnx", 1.0)]).reasons
    assert reasons["frozen"] == "slower than onnx: 100% more time"
