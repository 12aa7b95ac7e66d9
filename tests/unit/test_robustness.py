"""What must not move a keypoint: where the drill stands, its motors' gains, what comes after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farm.drilling.hole import Hole
from farm.models.depthnet import DepthModel
from farm.models.model import Insufficient
from farm.training.programs import PROGRAMS
from farm.training.simulator import simulate

pytestmark = pytest.mark.usefixtures("one_thread")

MOVED_MM = 0.1
# The same examples each time: that a network is steady is measured, not proved, and a rare hole may
# well move by more.
SETTINGS = settings(max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
holes = st.builds(
    lambda name, seed: simulate(name, np.random.default_rng(seed)),
    st.sampled_from(sorted(PROGRAMS)),
    st.integers(0, 10_000),
)


@pytest.fixture(scope="module")
def model():
    return DepthModel({"runtime": "frozen"})


def assert_steady(model, hole, changed, *, shift_mm=0.0):
    """A change moves no keypoint by 0.1 mm, unless the network says that it is unsure there."""
    before, after = model.infer([hole, changed])
    if isinstance(before, Insufficient):
        return  # nothing to keep
    if isinstance(after, Insufficient):
        assert before["quality"] < 0.97, f"a sure answer became: {after.reason}"
        return
    if len(before["keypoints_mm"]) != len(after["keypoints_mm"]):
        assert min(before["quality"], after["quality"]) < 0.97
        return
    moved = np.abs(np.subtract(after["keypoints_mm"], before["keypoints_mm"]) - shift_mm)
    # What moves farther than 0.1 mm must be within what the network itself calls likely.
    unsure = 2.0 * np.hypot(before["sigma_mm"], after["sigma_mm"])
    assert (moved < np.maximum(MOVED_MM, unsure)).all(), (before, after)


@SETTINGS
@given(holes, st.floats(-20, 20))
def test_shifting_the_position_shifts_the_keypoints(model, simulated, shift_mm):
    # Prevents a network that expects the stack where the simulator puts it.
    hole = simulated.hole
    shifted = replace(hole, position_mm=hole.position_mm + np.float32(shift_mm + 25))
    at_25 = replace(hole, position_mm=hole.position_mm + np.float32(25))
    assert_steady(model, at_25, shifted, shift_mm=shift_mm)


@SETTINGS
@given(holes, st.floats(0.8, 1.2), st.floats(0.8, 1.2))
def test_other_motor_gains_move_nothing(model, simulated, torque_gain, thrust_gain):
    # Prevents depths that depend on the wear of a motor.
    hole = simulated.hole
    scaled = replace(
        hole,
        torque_a=hole.torque_a * np.float32(torque_gain),
        thrust_a=hole.thrust_a * np.float32(thrust_gain),
    )
    assert_steady(model, hole, scaled)


@SETTINGS
@given(holes, st.floats(2.5, 12.0))
def test_cutting_the_tail_after_the_exit_moves_nothing(model, simulated, past_mm):
    # Prevents depths that depend on how far a program runs on.
    hole, exit_mm = simulated.hole, simulated.keypoints_mm[2]
    deepest = np.maximum.accumulate(hole.position_mm)
    keep = int((deepest <= exit_mm + past_mm).sum())
    assert_steady(model, hole, head(hole, keep))


def head(hole: Hole, keep: int) -> Hole:
    columns = ("position_mm", "torque_a", "thrust_a", "step_number")
    return replace(hole, **{name: getattr(hole, name)[:keep] for name in columns})


@SETTINGS
@given(holes)
def test_without_thrust_the_depth_stays_or_is_less_sure(model, simulated):
    # Prevents a network that trusts one channel alone.
    hole = simulated.hole
    assert_steady(model, hole, replace(hole, thrust_a=np.zeros_like(hole.thrust_a)))


@SETTINGS
@given(holes, st.sampled_from([50.0, 200.0]))
def test_another_sample_rate_moves_nothing(model, simulated, rate_hz):
    # Prevents a gateway's setting from changing depths.
    hole = simulated.hole
    n = int(len(hole) * rate_hz / hole.sample_rate_hz)
    at = np.arange(n) * hole.sample_rate_hz / rate_hz
    index = np.minimum(np.rint(at).astype(int), len(hole) - 1)

    def resampled(values):
        return np.interp(at, np.arange(len(hole)), values).astype(np.float32)

    changed = replace(
        hole,
        position_mm=resampled(hole.position_mm),
        torque_a=resampled(hole.torque_a),
        thrust_a=resampled(hole.thrust_a),
        step_number=hole.step_number[index],
        sample_rate_hz=rate_hz,
    )
    # A step change lies between two samples: its interpolated position is of neither step.
    edges = np.flatnonzero(np.diff(changed.step_number)) + 1
    changed.position_mm[edges] = hole.position_mm[index[edges]]
    assert_steady(model, hole, changed)


currents = st.floats(-1e6, 1e6, width=32, allow_nan=False)
samples = st.tuples(st.floats(0, 60, width=32), currents, currents, st.integers(0, 2))


@SETTINGS
@given(
    st.lists(samples, min_size=18, max_size=200),
    st.sampled_from([1e-300, 1.0, 50.0, 100.0, 1e5]),
    st.booleans(),
)
def test_no_input_gives_nan(model, rows, rate_hz, in_order):
    # Prevents a NaN that is published, or an exception that costs the hole its answer.
    position, torque, thrust, step = (np.array(column) for column in zip(*rows, strict=True))
    hole = Hole(
        position_mm=(np.sort(position) if in_order else position).astype(np.float32),
        torque_a=torque.astype(np.float32),
        thrust_a=thrust.astype(np.float32),
        step_number=step.astype(np.int16),
        steps=(),
        sample_rate_hz=rate_hz,
    )
    # The network's own numbers: whether they make an answer is another question.
    estimate = model._estimates([hole])[0]
    for numbers in (estimate.point_mm, estimate.tip_mm, estimate.sigma_mm, estimate.exists):
        assert np.isfinite(numbers).all()
    assert 0 <= estimate.quality <= 1
    answer = model.infer([hole])[0]
    assert isinstance(answer, Insufficient) or np.isfinite(answer["keypoints_mm"]).all()
