"""The simulator's promise: the keypoints it states are where its traces really change."""

from __future__ import annotations

import numpy as np
import pytest

from farm.training.course import drill
from farm.training.programs import PROGRAMS, StopCode
from farm.training.readings import POSITION_QUANTUM_MM, THRUST_QUANTUM_A, TORQUE_QUANTUM_A
from farm.training.simulator import simulate

NAMES = tuple(PROGRAMS)
HOLES = 15


def clean_courses(name):
    return [drill(PROGRAMS[name], np.random.default_rng(seed)) for seed in range(HOLES)]


def clean_torque(run):
    position = np.concatenate([part.position_mm for part in run.parts])
    torque = np.concatenate([part.first_a + part.metal_a for part in run.parts])
    return position, torque


@pytest.mark.parametrize("name", NAMES)
def test_torque_is_zero_before_the_entry_and_rises_at_it(name):
    # Prevents a truth that lies before or behind the ramp that a model must learn it from.
    for run in clean_courses(name):
        position, torque = clean_torque(run)
        entry = run.stack.entry_mm
        assert torque[position <= entry].max() == 0
        assert position[np.flatnonzero(torque > 0)[0]] - entry < 0.1, "two samples at the most"
        # An approach step stops at contact, and half a millimetre goes by until the next one cuts.
        assert torque[position < entry + 1.2].max() > 0.2 * min(
            run.torque.first_a, run.torque.metal_a
        )


@pytest.mark.parametrize("name", [n for n in NAMES if PROGRAMS[n].cfrp_a])
def test_metal_torque_begins_exactly_at_the_transition(name):
    # Prevents the truth drifting off where a step change's plateau hides the metal.
    for run in clean_courses(name):
        position = np.concatenate([part.position_mm for part in run.parts])
        metal = np.concatenate([part.metal_a for part in run.parts])
        transition = run.stack.transition_mm
        assert metal[position <= transition].max() == 0
        first = position[np.flatnonzero(metal > 0)[0]]
        assert first - transition < 0.1, "the metal is felt within two samples at the fastest feed"
        assert metal[position < transition + 1.5].max() > 0.2 * run.torque.metal_a


@pytest.mark.parametrize("name", NAMES)
def test_torque_falls_from_the_exit_on(name):
    # Prevents an exit that is the full diameter's, a millimetre later than the tip's.
    for run in clean_courses(name):
        position, torque = clean_torque(run)
        exit_mm = run.stack.exit_mm
        before = torque[(position > exit_mm - 0.4) & (position <= exit_mm)]
        after = torque[(position > exit_mm + 0.6) & (position < exit_mm + 0.9)]
        assert before.min() > 0.85 * before.max(), "no more than a sag before the exit"
        assert after.max() < 0.8 * before.min()


@pytest.mark.parametrize("name", NAMES)
def test_thrust_leads_torque_at_each_onset(name):
    # Prevents a network that learns thrust and torque to move together: real ones don't.
    for run in clean_courses(name):
        assert all(0.05 < lead < 1.3 for lead in run.thrust.lead_mm)
        position = np.concatenate([part.position_mm for part in run.parts])
        thrust = np.concatenate([part.thrust_a for part in run.parts])
        assert (
            thrust[(position > run.stack.entry_mm - 0.05) & (position <= run.stack.entry_mm)].max()
            > 0
        )


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_give_equal_holes(name):
    # Prevents hidden randomness: a training run or a test set could not be repeated.
    one, two = (simulate(name, np.random.default_rng(7)) for _ in range(2))
    other = simulate(name, np.random.default_rng(8))
    assert one.keypoints_mm == two.keypoints_mm != other.keypoints_mm
    np.testing.assert_array_equal(one.hole.torque_a, two.hole.torque_a)
    np.testing.assert_array_equal(one.power_w, two.power_w)


@pytest.mark.parametrize("name", NAMES)
def test_a_hole_is_well_formed(name):
    # Prevents samples that the message format, or the domain, can't hold.
    for seed in range(HOLES):
        simulated = simulate(name, np.random.default_rng(seed))
        hole, (entry, transition, exit_mm) = simulated.hole, simulated.keypoints_mm
        stack = drill(PROGRAMS[name], np.random.default_rng(seed)).stack
        assert simulated.keypoints_mm == (stack.entry_mm, stack.transition_mm, stack.exit_mm)
        arrays = (hole.position_mm, hole.torque_a, hole.thrust_a, simulated.power_w)
        assert {len(a) for a in arrays} == {len(hole)} == {len(hole.step_number)}
        assert all(np.isfinite(a).all() for a in arrays)
        assert 18 <= len(hole) <= 20_000
        assert entry < exit_mm < hole.position_mm.max()
        assert (transition is None) == (PROGRAMS[name].cfrp_a is None)
        assert transition is None or entry + 3.9 < transition < exit_mm - 2
        assert tuple(dict.fromkeys(hole.step_number)) == tuple(s.number for s in hole.steps)
        assert all(len(set(a[-3:])) == 1 for a in arrays[:3]), "the last samples are held"


def test_values_stand_on_the_machines_quanta():
    # Prevents traces smoother than any machine's: thresholds would look better than they are.
    hole = simulate("MDB", np.random.default_rng(3)).hole
    for values, quantum in (
        (hole.torque_a, TORQUE_QUANTUM_A),
        (hole.thrust_a, THRUST_QUANTUM_A),
        (hole.position_mm, POSITION_QUANTUM_MM),
    ):
        turns = values.astype(float) / quantum
        # Three decimals, as gateways write them, leave at most 0.0005 off the quantum.
        assert np.abs(turns - turns.round()).max() * quantum < 0.00051


def test_a_stroke_ends_the_first_step_on_both_sides_of_the_metal():
    # Prevents the case that the older rule got wrong by millimetres from missing in training.
    runs = [drill(PROGRAMS["V1-V5"], np.random.default_rng(seed)) for seed in range(80)]
    ends = [run.parts[0].position_mm.max() - run.stack.transition_mm for run in runs]
    assert all(run.parts[0].stop is StopCode.STROKE for run in runs)
    assert sum(end > 0.2 for end in ends) >= 5
    assert sum(end < 0 for end in ends) >= 40
    short = [run for run, end in zip(runs, ends, strict=True) if end < 0]
    assert all(run.parts[0].metal_a.max() == 0 for run in short), "short of the metal, none is cut"


def test_the_torque_maximum_ends_the_first_step_inside_the_metal():
    # Prevents stop codes that contradict the trace.
    for seed in range(40):
        run = drill(PROGRAMS["HAM"], np.random.default_rng(seed))
        first = run.parts[0]
        if first.stop is StopCode.TORQUE_MAX:
            assert first.position_mm[-1] > run.stack.transition_mm
            assert (first.first_a + first.metal_a)[-1] == pytest.approx(6.0, abs=1.5)


@pytest.mark.parametrize("name", NAMES)
def test_a_single_step_hole_has_one_step_and_no_transition(name):
    # Prevents a sample set without the holes that must be refused.
    simulated = simulate(name, np.random.default_rng(1), single_step=True)
    assert len(simulated.hole.steps) == 1
    assert len(set(simulated.hole.step_number)) == 1
    assert simulated.keypoints_mm[1] is None


def test_a_micropeck_is_seen_in_the_metal_only():
    # Prevents a program table whose peck no longer reaches the trace.
    simulated = simulate("MQL", np.random.default_rng(2))
    hole, (entry, transition, exit_mm) = simulated.hole, simulated.keypoints_mm
    position, step = hole.position_mm, hole.step_number
    metal = hole.torque_a[(step == 2) & (position > transition + 2.5) & (position < exit_mm - 1)]
    cfrp = hole.torque_a[(step == 1) & (position > entry + 3) & (position < transition - 0.2)]
    assert metal.std() > 1.0
    assert cfrp.std() < 0.3


def test_an_unknown_program_is_a_key_error():
    # Prevents a misspelt family from being simulated as another.
    with pytest.raises(KeyError):
        simulate("V9", np.random.default_rng(0))
