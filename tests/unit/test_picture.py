"""What a picture of a hole says: words, names and places, whatever draws it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from farm.drilling.hole import Hole, Step
from farm.drilling.picture import Course, keypoints, outcome, stop_words
from farm.models.model import Insufficient, depth_answer

ANSWER = depth_answer([5.02, 14.9, 18.3], quality=0.97)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (ANSWER, "depth 13.28 mm (9.88 + 3.40), quality 0.97"),
        (depth_answer([5, 12.5]), "single layer, depth 7.50 mm"),
        (Insufficient("Air drilling"), "insufficient: Air drilling"),
        ({"keypoints_mm": []}, "no depth: fewer than two keypoints"),
    ],
)
def test_the_outcome_in_words(answer, words):
    # prevents: a title that calls a single layer's exit a transition
    assert outcome(answer) == words


def test_a_single_layer_has_an_exit_and_no_transition():
    # prevents: a reference transition held against an exit
    found = keypoints(depth_answer([5, 12.5]), (5.1, math.nan, 12.4))
    assert [(k.name, k.truth_mm) for k in found] == [("entry", 5.1), ("exit", 12.4)]


@pytest.mark.parametrize(
    ("code", "words"),
    [(1, "torque maximum"), (64, "stroke reached"), (65, "torque maximum and stroke reached"),
     (4, "code 4"), (None, ""), (0, "")],
)  # fmt: skip
def test_stop_codes_in_words(code, words):
    # prevents: numbers that only the machine's maker can read
    assert stop_words(code) == words


def test_a_step_that_runs_again_has_its_own_stop_code():
    # prevents: every run of a step under the stop code of the first
    nothing = (0.0, 0.0, 0.0)
    hole = Hole(
        position_mm=np.array([1, 2, 1.9, 3, 2.9, 4], np.float32),
        torque_a=np.zeros(6, np.float32),
        thrust_a=np.zeros(6, np.float32),
        step_number=np.array([1, 1, 2, 2, 1, 1], np.int16),
        steps=(Step(1, 1, *nothing), Step(2, 64, *nothing), Step(1, 8, *nothing)),
    )
    spans = Course(hole).spans(hole)
    assert [span.stopped for span in spans] == ["torque maximum", "stroke reached", "thrust limit"]
    assert [(span.low, span.high) for span in spans] == [(1, 2), (2, 3), (3, 4)]
    # By time, a position counts from when it was first reached, not from a pull-back's return.
    assert Course(hole, "time").at(1.95) == pytest.approx(0.01)


def test_flickering_step_numbers_are_no_steps():
    # prevents: a thousand shaded bars drawn from one broken channel
    numbers = np.tile(np.array([1, 2], np.int16), 250)
    level = np.zeros(500, np.float32)
    hole = Hole(level, level, level, numbers, ())
    assert Course(hole).spans(hole) == []
