"""The gradient rule: a fair baseline, and its known failure."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from farm.drilling.hole import Hole, Step
from farm.errors import ModelError
from farm.models.model import Insufficient, Model
from farm.models.rule import GradientRule


def made_hole(transition=10.0, step_change=10.0, stop_code=64):
    """A clean hole: CFRP from 4 mm at 5 A, metal to 16 mm at 30 A, ramps of 0.5 mm."""
    position = np.arange(1.0, 20.0, 0.02)
    knots = (4.0, 4.5, transition, transition + 0.5, 16.0, 16.5)
    torque = np.interp(position, knots, (0, 5, 5, 30, 30, 0))
    number = np.where(position < step_change, 1, 2)
    return Hole(
        position_mm=position.astype(np.float32),
        torque_a=torque.astype(np.float32),
        thrust_a=(torque / 30).astype(np.float32),
        step_number=number.astype(np.int16),
        steps=tuple(Step(n, stop_code, 1.0, 0.0, 0.0) for n in (1, 2)),
    )


def keypoints(hole):
    return GradientRule({}).infer([hole])[0]["keypoints_mm"]


def test_it_finds_all_three_where_the_machine_changes_step_at_the_metal():
    # Prevents a straw man: on the case it is made for, the rule must be right within a ramp.
    assert keypoints(made_hole()) == pytest.approx([4.0, 10.0, 16.0], abs=0.7)


def test_it_believes_the_machine_that_met_the_metal():
    # Prevents a straw man: a torque maximum tells where the metal is, and the rule may use it.
    found = keypoints(made_hole(transition=10.0, step_change=11.0, stop_code=1))
    assert found == pytest.approx([4.0, 10.0, 16.0], abs=0.7)


def test_it_is_misled_where_the_stroke_reaches_into_the_metal():
    # Documents the known failure. If this test fails, the rule has become better than its name.
    found = keypoints(made_hole(transition=10.0, step_change=12.0))
    assert abs(found[0] - 4.0) > 3 or abs(found[1] - 10.0) > 1


@pytest.mark.parametrize(
    ("count", "numbers", "reason"),
    [(17, 2, "Too few samples"), (500, 1, "Not enough steps")],
)
def test_it_refuses_what_has_no_answer(count, numbers, reason):
    # Prevents made-up depths for fragments and single-step holes.
    ramp = np.linspace(1, 10, count, dtype=np.float32)
    steps = np.linspace(1, numbers + 0.5, count).astype(np.int16)
    answer = GradientRule({}).infer([Hole(ramp, ramp, ramp, steps, ())])[0]
    assert isinstance(answer, Insufficient)
    assert reason in answer.reason


@pytest.mark.parametrize("shape", ["zeros", "reversed", "alternating"])
def test_it_never_answers_nan(shape):
    # Prevents a published NaN, which JSON turns into null.
    ramp = np.linspace(1, 10, 400, dtype=np.float32)
    position = {"zeros": ramp * 0, "reversed": ramp[::-1], "alternating": ramp}[shape]
    steps = np.arange(400) % 2 if shape == "alternating" else np.arange(400) // 200
    found = keypoints(Hole(position, ramp * 0, ramp * 0, steps.astype(np.int16), ()))
    assert np.isfinite(found).all()


def test_a_step_that_ends_on_torque_at_once_is_answered():
    # Prevents an exception, and with it a dead letter, from a first step that hardly advanced.
    hole = made_hole(stop_code=1)
    start = hole.position_mm[0]
    still = replace(hole, position_mm=np.where(hole.step_number == 1, start, hole.position_mm))
    assert np.isfinite(keypoints(still)).all()


def test_it_is_a_model_and_takes_no_settings():
    # Prevents settings that look as if they did something.
    assert isinstance(GradientRule({}), Model)
    with pytest.raises(ModelError, match="takes none"):
        GradientRule({"weights": "x"})


def test_it_does_not_import_torch():
    # Prevents 150 MB a worker for a rule of arithmetic.
    code = "import sys, farm.models.rule, farm.models.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
