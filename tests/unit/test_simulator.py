"""The simulator's promise: the keypoints it states are where its traces really change."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from farm.training.draws import Draws
from farm.training.faults import Faults, draw_faults
from farm.training.profile import THRUST_FIRST, THRUST_METAL, TORQUE_FIRST, TORQUE_METAL
from farm.training.programs import FAMILIES, PROGRAMS, WIDE, Role, StopCode
from farm.training.ramps import STEP_MM, Ramp, rise
from farm.training.readings import POSITION_QUANTUM_MM, THRUST_QUANTUM_A, TORQUE_QUANTUM_A
from farm.training.simulator import simulate, simulate_batch, unpack
from farm.training.stack import FIRST, METAL, THIRD

NAMES = tuple(FAMILIES)
HOLES = 60


def batch_of(name, *, seed=3, holes=HOLES, **kwargs):
    return simulate_batch([NAMES.index(name)] * holes, np.random.default_rng(seed), **kwargs)


def mean_slope(batch, columns, row, low_mm, high_mm):
    """A per mm of the noise-free profile between two positions."""
    curve = batch.course.profile.curves[row][:, columns].sum(1)
    at = np.arange(len(curve)) * STEP_MM
    return (np.interp(high_mm, at, curve) - np.interp(low_mm, at, curve)) / (high_mm - low_mm)


def test_a_ramps_hinge_is_where_its_straight_part_begins():
    # Prevents a truth that moves with the roundness of a ramp's foot.
    at = np.arange(800, dtype=np.float32) * np.float32(STEP_MM)
    depth, share = np.array([[0, 0.5, 1.0, 2.0]]), np.array([[0, 0.25, 0.5, 1.0]])
    for foot_mm in (0.05, 0.2, 0.45):
        curve = rise(Ramp(depth, share, np.array([foot_mm])), np.array([10.0]), at)[0]
        straight = (at > 10.0 + foot_mm + 0.05) & (at < 10.9)
        slope, level = np.polyfit(at[straight], curve[straight], 1)
        assert -level / slope == pytest.approx(10.0, abs=0.02)
        assert curve[at < 10.0 - foot_mm - STEP_MM].max() == 0
        assert curve[at > 13].min() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_torque_begins_to_rise_at_the_entry(name):
    # Prevents a truth that lies before or behind the ramp that a model must learn it from.
    batch = batch_of(name, faults=0)
    torque = [TORQUE_FIRST, TORQUE_METAL]
    entry = batch.keypoints_mm[:, 0]
    before = [mean_slope(batch, torque, r, entry[r] - 1.6, entry[r] - 0.7) for r in range(HOLES)]
    after = [mean_slope(batch, torque, r, entry[r] + 0.1, entry[r] + 0.4) for r in range(HOLES)]
    level = batch.course.stack.torque_a.max(1)
    assert np.all(np.array(before) < 0.02 * level + 0.03), "nothing but a weak touch"
    assert np.all(np.array(after) > np.array(before) + 0.05)


@pytest.mark.parametrize("name", NAMES)
def test_torque_falls_from_the_exit_on(name):
    # Prevents an exit that is the full diameter's, a millimetre later than the tip's.
    batch = batch_of(name, faults=0)
    exit_ = batch.keypoints_mm[:, 2]
    torque = [TORQUE_FIRST, TORQUE_METAL]
    stack = batch.course.stack
    last = np.where(stack.present[:, METAL], METAL, FIRST)
    level = stack.torque_a[np.arange(HOLES), last]
    # Under a third layer the torque has fallen once before.
    for row in np.flatnonzero(~stack.present[:, THIRD]):
        steep = mean_slope(batch, torque, row, exit_[row] + 0.1, exit_[row] + 0.6) / level[row]
        earlier = mean_slope(batch, torque, row, exit_[row] - 2.0, exit_[row] - 1.2) / level[row]
        assert steep < earlier - 0.05, "the fall itself is steeper than what comes before"


@pytest.mark.parametrize("name", [n for n in PROGRAMS if n != "AL"])
def test_the_metal_begins_at_the_transition(name):
    # Prevents the truth drifting off where a step change hides the metal.
    batch = batch_of(name, faults=0)
    metal = [TORQUE_METAL]
    two = np.flatnonzero(np.isfinite(batch.keypoints_mm[:, 1]))
    assert len(two) > HOLES / 2
    for row in two:
        at = batch.keypoints_mm[row, 1]
        assert mean_slope(batch, metal, row, at - 1.5, at - 0.6) < 0.01
        assert mean_slope(batch, metal, row, at + 0.1, at + 0.6) > 0.3


@pytest.mark.parametrize("name", NAMES)
def test_thrust_leads_torque_as_far_as_the_tip_keypoints_say(name):
    # Prevents a network that learns thrust and torque to move together: real ones don't.
    batch = batch_of(name, faults=0)
    lead = batch.keypoints_mm - batch.tip_mm
    known = lead[np.isfinite(lead)]
    assert known.min() > -0.5, "a restart may hold thrust back a little, no more"
    assert np.median(known) > 0.05
    assert known.max() < 1.4
    thrust = [THRUST_FIRST, THRUST_METAL]
    for row in range(HOLES):
        at = batch.tip_mm[row, 0]
        assert mean_slope(batch, thrust, row, at - 1.0, at - 0.4) < 0.005
        assert mean_slope(batch, thrust, row, at, at + 0.4) > 0


def test_thrust_can_be_told_not_to_lead():
    # Prevents an ablation that changes nothing.
    batch = batch_of("HAM", faults=0, thrust_leads=False)
    np.testing.assert_allclose(batch.tip_mm[:, [0, 2]], batch.keypoints_mm[:, [0, 2]])


def test_metal_met_while_the_drive_restarts_is_labelled_where_torque_returns():
    # Prevents transitions in a stretch where nothing of them can be seen.
    batch = batch_of("V6-V7", faults=0, holes=200)
    course = batch.course
    first_end = course.end_mm[:, 0]
    resume = course.resume_mm[:, 1]
    transition = batch.keypoints_mm[:, 1]
    unseen = (transition > first_end + 0.01) & (transition < resume - 1e-6)
    assert not unseen.any()
    assert (np.abs(transition - resume) < 1e-6).sum() > 50, "most of these holes are such"


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_give_equal_holes(name):
    # Prevents hidden randomness: a training run or a test set could not be repeated.
    one, two = (batch_of(name, holes=4) for _ in range(2))
    other = batch_of(name, holes=4, seed=8)
    np.testing.assert_array_equal(one.traces.torque_a, two.traces.torque_a)
    np.testing.assert_array_equal(one.keypoints_mm, two.keypoints_mm)
    assert not np.array_equal(one.keypoints_mm, other.keypoints_mm)


@pytest.mark.parametrize("name", NAMES)
def test_a_hole_is_well_formed(name):
    # Prevents samples that the message format, or the domain, can't hold.
    batch = batch_of(name, faults=1.0)
    for simulated in unpack(batch, np.random.default_rng(0)):
        hole = simulated.hole
        arrays = (hole.position_mm, hole.torque_a, hole.thrust_a, simulated.power_w)
        assert {len(a) for a in arrays} == {len(hole)} == {len(hole.step_number)}
        assert all(np.isfinite(a).all() for a in arrays)
        assert 1 <= len(hole) <= 20_000
        assert np.abs(hole.torque_a).max() < 200
        known = [k for k in simulated.keypoints_mm if k is not None]
        assert known == sorted(known)
        if known:
            assert known[-1] < hole.position_mm.max()


@pytest.mark.parametrize("name", PROGRAMS)
def test_good_holes_of_known_programs_have_all_their_keypoints(name):
    # Prevents families that train on nothing, and stacks that a program can't get through.
    batch = batch_of(name, faults=0, holes=200)
    assert np.isfinite(batch.keypoints_mm[:, [0, 2]]).all()
    two = np.isfinite(batch.keypoints_mm[:, 1]).mean()
    assert two == 0 if name == "AL" else two > 0.9


def test_values_stand_on_the_machines_quanta():
    # Prevents traces smoother than any machine's: thresholds would look better than they are.
    traces = batch_of("MDB", faults=0, holes=3).traces
    for values, quantum in (
        (traces.torque_a, TORQUE_QUANTUM_A),
        (traces.thrust_a, THRUST_QUANTUM_A),
        (traces.position_mm, POSITION_QUANTUM_MM),
    ):
        turns = values.astype(float) / quantum
        # Three decimals, as gateways write them, leave at most 0.0005 off the quantum.
        assert np.abs(turns - turns.round()).max() * quantum < 0.00051


def test_the_last_samples_of_every_step_are_held():
    # Prevents steps that end livelier than a machine's do.
    batch = batch_of("HAM", faults=0, holes=5)
    ends = np.cumsum(batch.counts.ravel())[batch.counts.ravel() > 0]
    for end in ends:
        for signal in (batch.traces.position_mm, batch.traces.torque_a, batch.traces.thrust_a):
            assert len(set(signal[end - 4 : end])) == 1


def test_a_stroke_ends_the_first_step_on_both_sides_of_the_metal():
    # Prevents the case that the older rule got wrong by millimetres from missing in training.
    batch = batch_of("V1-V5", faults=0, holes=300)
    two = np.isfinite(batch.keypoints_mm[:, 1])
    past = (batch.course.end_mm[:, 0] - batch.keypoints_mm[:, 1])[two]
    assert (batch.course.stop_code[two, 0] == StopCode.STROKE).all()
    assert (past > 0.2).sum() >= 10
    assert (past < -1.0).sum() >= 100


def test_the_torque_maximum_ends_the_first_step_inside_the_metal():
    # Prevents stop codes that contradict the trace.
    batch = batch_of("HAM", faults=0, holes=200)
    stopped = batch.course.stop_code[:, 0] == StopCode.TORQUE_MAX
    assert stopped.sum() > 100
    past = (batch.course.end_mm[:, 0] - batch.keypoints_mm[:, 1])[stopped]
    # A few stop in a first material that is hard enough itself.
    assert np.nanquantile(past, 0.1) > 0
    assert 0.1 < np.nanmedian(past) < 1.0


def test_the_torque_minimum_ends_the_metal_step_behind_the_exit():
    # Prevents programs that stop in the middle of the metal, or never.
    batch = batch_of("MQL", faults=0, holes=200)
    ended = batch.course.runs[:, 1] & (batch.course.stop_code[:, 1] == StopCode.TORQUE_MIN)
    assert ended.mean() > 0.9
    past = (batch.course.end_mm[:, 1] - batch.keypoints_mm[:, 2])[ended]
    assert past.min() > 0.1
    assert past.max() < 6.0


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_single_step_hole_has_one_step(name):
    # Prevents a sample set without the holes that must be refused.
    simulated = simulate(name, np.random.default_rng(1), single_step=True)
    assert len(simulated.hole.steps) == 1
    assert len(set(simulated.hole.step_number)) == 1


def test_a_micropeck_is_seen_in_the_metal_only():
    # Prevents a program table whose peck no longer reaches the trace.
    simulated = simulate("MQL", np.random.default_rng(2))
    hole, (entry, transition, exit_mm) = simulated.hole, simulated.keypoints_mm
    position, step = hole.position_mm, hole.step_number
    metal = hole.torque_a[(step == 2) & (position > transition + 2.5) & (position < exit_mm - 1)]
    cfrp = hole.torque_a[(step == 1) & (position > entry + 3) & (position < transition - 0.6)]
    assert metal.std() > 1.0
    assert cfrp.std() < 0.3


def longest_run(values):
    """How many samples in a row are equal, at most."""
    changes = np.flatnonzero(np.diff(values, prepend=np.nan, append=np.nan))
    return int(np.diff(changes).max())


def test_each_fault_shows():
    # Prevents bad holes that are bad in name only, so that a model never learns to refuse them.
    holes = 2000
    batch = batch_of("HAM", holes=holes, faults=2.0)
    faults, keypoints = batch.faults, batch.keypoints_mm
    exits = np.isfinite(keypoints[:, 2])
    assert not np.isfinite(keypoints[faults.air]).any()
    assert not exits[faults.missed_exit].any()
    assert 0.05 < exits[faults.abort].mean() < 0.8, "some are cut before the exit, some after"
    starts, ends = batch.traces.starts[:-1], batch.traces.starts[1:]
    for row in np.flatnonzero(faults.dead_thrust & ~faults.spikes)[:5]:
        assert np.abs(batch.traces.thrust_a[starts[row] : ends[row]]).max() < 0.2
    for row in np.flatnonzero(faults.dead_torque & ~faults.spikes)[:3]:
        assert np.abs(batch.traces.torque_a[starts[row] : ends[row]]).max() < 0.1
    for stuck, signal in (
        (faults.stuck_torque, batch.traces.torque_a),
        (faults.stuck_thrust, batch.traces.thrust_a),
    ):
        rows = np.flatnonzero(stuck & ~faults.spikes)
        runs = [longest_run(signal[starts[r] : ends[r]]) / (ends[r] - starts[r]) for r in rows]
        assert np.max(runs) > 0.8, "some from the beginning, some at the end"
    spiked = [
        np.abs(np.diff(batch.traces.torque_a[starts[r] : ends[r]])).max()
        for r in np.flatnonzero(faults.spikes)
    ]
    assert np.median(spiked) > 5.0
    for row in np.flatnonzero(faults.single_step)[:5]:
        assert (batch.counts[row] > 0).sum() == 1
    for row in np.flatnonzero(faults.lost_steps)[:5]:
        assert len(set(batch.traces.step_number[starts[row] : ends[row]])) == 1
    rates = batch.traces.rate_hz
    assert (rates[~faults.other_rate] == 100).all()
    assert {50.0, 200.0} <= set(rates[faults.other_rate])


def test_no_fault_is_drawn_at_strength_zero():
    # Prevents a sample archive with bad holes in it.
    faults = draw_faults(Draws(np.random.default_rng(0), [0] * 500), strength=0.0)
    assert not any(getattr(faults, field.name).any() for field in fields(Faults))


def test_a_recording_that_ends_at_a_keypoint_leaves_it_unclear():
    # Prevents teaching as certain what no one could see.
    batch = batch_of("V8", holes=3000, faults=3.0)
    assert batch.unclear.any()
    assert not (batch.unclear & np.isfinite(batch.keypoints_mm)).any()


def test_an_aborted_hole_says_so_in_its_stop_code():
    # Prevents reports that tell less than a real machine's.
    batch = batch_of("MDB", holes=300, faults=2.0)
    holes = unpack(batch, np.random.default_rng(0))
    for row in np.flatnonzero(batch.faults.abort)[:10]:
        assert holes[row].hole.steps[-1].stop_code == StopCode.ABORT


def test_the_wide_families_go_beyond_the_known_ones():
    # Prevents a network that knows programs by heart.
    known = np.concatenate([batch_of(n, faults=0).keypoints_mm for n in PROGRAMS])
    wide = np.concatenate([batch_of(n, faults=0).keypoints_mm for n in WIDE])
    assert np.nanmax(wide[:, 2]) > np.nanmax(known[:, 2]) + 2
    assert np.nanmin(wide[:, 0]) < np.nanmin(known[:, 0])


def test_every_program_plans_its_steps_in_order():
    # Prevents a table row whose steps can't be drilled.
    for program in FAMILIES.values():
        roles = [plan.role for plan in program.steps]
        assert roles == sorted(roles)
        assert Role.NONE not in roles


def test_an_unknown_program_is_a_key_error():
    # Prevents a misspelt family from being simulated as another.
    with pytest.raises(KeyError):
        simulate("V9", np.random.default_rng(0))
