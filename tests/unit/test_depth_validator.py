import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.config import DepthValidationConfig
from farm.drilling import validator as validator_module
from farm.drilling.validator import Decision, DepthValidator

GOOD = [2.0, 10.0, 16.0]
BAD = [10.0, 9.5, 16.0]  # the transition lies before the entry


def a_validator(**settings) -> DepthValidator:
    return DepthValidator(DepthValidationConfig(**settings))


def runs(validator, *events) -> list[tuple[bool, bool]]:
    """For each (time in s, keypoints) whether a run was reached, and whether it was alerted."""
    verdicts = [validator.judge("b/t", keypoints, now_s) for now_s, keypoints in events]
    return [(verdict.run_reached, bool(verdict.alert)) for verdict in verdicts]


@pytest.mark.parametrize(
    ("keypoints", "rounded", "depths"),
    [
        ([2.0, 10.0, 16.0], (2.0, 10.0, 16.0), (8.0, 6.0)),
        ((2.0, 10.0), (2.0, 10.0), (8.0,)),
        ([1, 2, 4, 8], (1.0, 2.0, 4.0, 8.0), (1.0, 2.0, 4.0)),
        # What is published must add up on the wire, and read -0.0 nowhere.
        ([0.1004, 0.3006, 0.3], (0.1, 0.301, 0.3), (0.201, -0.001)),
        ([5.0001, 5.0, 5.0], (5.0, 5.0, 5.0), (0.0, 0.0)),
        ([-0.0001, 5.0], (0.0, 5.0), (5.0,)),
    ],
)
def test_depths_are_the_differences_of_the_published_keypoints(keypoints, rounded, depths):
    verdict = a_validator().judge("b/t", keypoints, 0.0)
    assert verdict.keypoints_mm == rounded
    assert verdict.depths_mm == depths
    published = (*verdict.keypoints_mm, *verdict.depths_mm)
    assert not any(math.copysign(1, number) < 0 for number in published if number == 0)


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (None, "no list"),
        ("1,2,3", "no list"),
        (7.0, "no list"),
        ({"entry": 1}, "no list"),
        ([], "0 keypoints"),
        ([1.0], "1 keypoints"),
        ([1.0] * 33, "33 keypoints"),
        ([1.0, "2", 3.0], "not a number"),
        ([1.0, None, 3.0], "not a number"),
        ([True, 2.0, 3.0], "not a number"),
        ([[1.0], [2.0]], "not a number"),
        ([1.0, math.nan, 3.0], "not a finite"),
        ([-math.inf, 1.0, 3.0], "not a finite"),
        ([10**400, 1.0, 3.0], "not a finite"),
    ],
)
def test_what_makes_no_depth_is_invalid_with_its_reason(value, cause):
    validator = a_validator()
    verdict = validator.judge("b/t", value, 0.0)
    assert verdict.decision is Decision.INVALID
    assert cause in verdict.reason
    assert validator.statistics["invalid_values"] == 1


@given(st.lists(st.floats() | st.integers(), max_size=5))
@settings(deadline=None)
def test_a_verdict_never_carries_what_json_cannot(keypoints):
    verdict = a_validator().judge("b/t", keypoints, 0.0)
    assert all(map(math.isfinite, (*verdict.keypoints_mm, *verdict.depths_mm)))
    assert bool(verdict.depths_mm) != (verdict.decision is Decision.INVALID)


@pytest.mark.parametrize(
    ("behaviour", "decision"),
    [("publish", Decision.PUBLISH), ("skip", Decision.SKIP), ("warning", Decision.WARN)],
)
def test_the_operator_decides_about_negative_depths_and_runs_count_all_the_same(
    behaviour, decision
):
    validator = a_validator(negative_depth_behavior=behaviour, sequential_threshold=2)
    assert validator.judge("b/t", GOOD, 0.0).decision is Decision.PUBLISH
    verdict = validator.judge("b/t", BAD, 1.0)
    assert (verdict.decision, verdict.negative) == (decision, True)
    verdict = validator.judge("b/t", BAD, 2.0)
    assert "2 negative depths in a row" in verdict.alert
    assert behaviour in verdict.alert
    counts = validator.statistics
    assert (counts["judged"], counts["negative_depths"], counts["negative_runs"]) == (3, 2, 1)
    assert (counts["skipped"], counts["warned"]) == (
        2 * (decision is Decision.SKIP),
        2 * (decision is Decision.WARN),
    )


N, A, Q = (False, False), (True, True), (True, False)  # nothing; reached, alerted; reached, quiet
SEQUENCES = {
    "reached": ([(0, BAD), (1, BAD), (2, BAD)], [N, N, A]),
    "broken by a good one": ([(0, BAD), (1, BAD), (2, GOOD), (3, BAD), (4, BAD)], [N] * 5),
    "an invalid one does not break it": (
        [(0, BAD), (1, BAD), (2, None), (3, BAD)], [N, N, N, A]),
    "too slow for the window": ([(0, BAD), (40, BAD), (80, BAD)], [N, N, N]),
    "slow, then fast": ([(0, BAD), (50, BAD), (70, BAD), (71, BAD)], [N, N, N, A]),
    "on the edge of the window": ([(0, BAD), (30, BAD), (60, BAD)], [N, N, A]),
    "one alert a window": (
        [(t, BAD) for t in range(6)], [N, N, A, N, N, N]),
    "again in the next window": (
        [(t, BAD) for t in (0, 1, 2, 30, 59, 62, 63)], [N, N, A, N, N, (False, True), N]),
    "a second run in the window is counted quietly": (
        [(0, BAD), (1, BAD), (2, BAD), (3, GOOD), (4, BAD), (5, BAD), (6, BAD)],
        [N, N, A, N, N, N, Q]),
}  # fmt: skip


@pytest.mark.parametrize(("events", "expected"), SEQUENCES.values(), ids=SEQUENCES)
def test_runs_of_negatives(events, expected):
    validator = a_validator(sequential_threshold=3, sequential_window_minutes=1)
    assert runs(validator, *events) == expected


def test_a_threshold_of_one_alerts_at_the_first():
    validator = a_validator(sequential_threshold=1, sequential_window_minutes=1)
    assert runs(validator, (0, BAD), (1, BAD)) == [A, N]


def test_tools_have_runs_of_their_own():
    validator = a_validator(sequential_threshold=2)
    for number, source in enumerate(("a/1", "a/2", "b/1")):
        assert not validator.judge(source, BAD, number).alert
    assert "a/2: 2 negative" in validator.judge("a/2", BAD, 4.0).alert


def test_runs_are_not_tracked_when_the_operator_says_so():
    validator = a_validator(track_sequential_negatives=False, sequential_threshold=1)
    assert runs(validator, (0, BAD), (1, BAD)) == [N, N]
    assert validator.statistics["negative_depths"] == 2


def test_memory_is_bounded_and_good_tools_take_none(monkeypatch):
    monkeypatch.setattr(validator_module, "MAX_SOURCES", 5)
    validator = a_validator(sequential_threshold=3)
    for number in range(50):
        validator.judge(f"good/{number}", GOOD, number)
        validator.judge(f"bad/{number}", BAD, number)
        assert len(validator._runs) <= 5
    for now_s in (51, 52):  # the newest is still known
        verdict = validator.judge("bad/49", BAD, now_s)
    assert verdict.alert
    validator.judge("bad/48", GOOD, 60)
    assert "bad/48" not in validator._runs
