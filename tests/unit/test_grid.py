"""The grid: what a hole becomes before the network sees it."""

from __future__ import annotations

import numpy as np
import pytest

from farm.drilling.hole import Hole
from farm.models.grid import BIN_MM, CELL_BINS, CHANNELS, N_BINS, N_CELLS, resample
from farm.models.traces import Traces
from farm.training.programs import PROGRAMS
from farm.training.simulator import simulate


def made(position, torque=None, steps=None, rate_hz=100.0):
    position = np.asarray(position, np.float32)
    half = np.arange(len(position)) // max(1, len(position) // 2)
    return Hole(
        position_mm=position,
        torque_a=np.asarray(position * 0 if torque is None else torque, np.float32),
        thrust_a=position * 0,
        step_number=np.asarray(half if steps is None else steps, np.int16),
        steps=(),
        sample_rate_hz=rate_hz,
    )


def grid_of(*holes):
    return resample(Traces.of(holes))


def amperes(grid, row=0):
    return np.sinh(5 * grid.channels[row, 1].astype(float)) * 0.1


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_the_grid_marks_the_begin_of_each_step(name):
    # Prevents a network that can't see where the machine changed feed.
    hole = simulate(name, np.random.default_rng(4)).hole
    grid = grid_of(hole)
    assert grid.bin_mm[0] == pytest.approx(BIN_MM)
    assert grid.channels[0, 4].sum() == len(hole.steps)
    assert np.isfinite(grid.channels).all()
    used = int(grid.used[0].sum())
    assert not grid.channels[0, :, CELL_BINS * used :].any()


def test_a_step_that_goes_back_has_bins_of_its_own():
    # Prevents the air torque of a step change from hiding the load at the same depth.
    first, second = np.arange(1.0, 6.0, 0.05), np.arange(5.7, 10.0, 0.05)
    torque = np.concatenate([np.full(len(first), 5.0), np.full(len(second), 1.0)])
    steps = np.repeat([1, 2], [len(first), len(second)])
    grid = grid_of(made(np.concatenate([first, second]), torque, steps))
    position = grid.position_mm[0][grid.used[0] > 0]
    assert (np.diff(position) < 0).sum() == 1, "the path goes back once"
    boundary = int(np.flatnonzero(grid.channels[0, 4])[1])
    np.testing.assert_allclose(amperes(grid)[2 : boundary - 2], 5.0, rtol=1e-3)
    np.testing.assert_allclose(amperes(grid)[boundary + 2 : boundary + 80], 1.0, rtol=1e-3)


def test_pull_backs_within_a_step_are_left_out():
    # Prevents what is measured behind the deepest point from being averaged in.
    feed = np.arange(1.0, 10.0, 0.05)
    position = np.concatenate([feed[:100], feed[99] - np.linspace(0.3, 0.02, 200), feed[100:]])
    torque = np.full(len(position), 5.0)
    torque[100:300] = 0.0
    grid = grid_of(made(position, torque, np.ones(len(position))))
    used = CELL_BINS * int(grid.used[0].sum())
    np.testing.assert_allclose(amperes(grid)[: used - 2], 5.0, rtol=1e-3)


def test_a_sparse_sample_is_placed_where_it_was_taken():
    # Prevents half a bin of error where a fast feed leaves one sample a bin.
    position = np.arange(1.0, 12.0, 0.042)
    grid = grid_of(made(position, position, np.ones(len(position))))
    centres = 1.0 + BIN_MM * (np.arange(N_BINS) + 0.5)
    inside = slice(2, int((12.0 - 1.0) / BIN_MM) - 3)
    np.testing.assert_allclose(amperes(grid)[inside], centres[inside], atol=0.005)


@pytest.mark.parametrize("at", [0, 40, 150, 219])
@pytest.mark.parametrize("off_mm", [5.0, -5.0, 1e6])
def test_one_wrong_position_spoils_no_others(at, off_mm):
    # Prevents all that follows a spike from looking pulled back: depths off by millimetres.
    position = np.arange(1.0, 12.0, 0.05)
    spiked = position.copy()
    spiked[at] += off_mm
    clean = grid_of(made(position, position, np.ones(220)))
    grid = grid_of(made(spiked, position, np.ones(220)))
    assert np.abs(amperes(grid) - amperes(clean))[:210].max() < 0.11, "two bins of a tenth"
    np.testing.assert_allclose(grid.position_mm[0, :100], clean.position_mm[0, :100], atol=0.11)
    assert grid.origin_mm[0] == pytest.approx(1.0, abs=0.11)


def test_a_neighbour_far_away_changes_nothing():
    # Prevents one garbage hole from taking the digits of a whole batch's positions.
    hole = simulate("HAM", np.random.default_rng(2)).hole
    far = made(np.full(500, 1e12))
    np.testing.assert_array_equal(grid_of(far, hole).channels[1], grid_of(hole).channels[0])


def test_thirty_two_steps_are_steps_and_more_are_none():
    # Prevents a hole whose steps count alone, and not beside another.
    smooth = np.linspace(1, 20, 990)
    for count, marks in ((31, 31), (32, 32), (33, 1)):
        hole = made(smooth, smooth, np.arange(990) * count // 990)
        other = made(smooth, smooth, np.full(990, 7))
        assert grid_of(hole).channels[0, 4].sum() == marks
        assert grid_of(other, hole).channels[1, 4].sum() == marks


def test_cells_know_their_position():
    # Prevents keypoints that are read out of a place the drill never was.
    hole = simulate("MQL", np.random.default_rng(4)).hole
    grid = grid_of(hole)
    used = grid.used[0] > 0
    position = grid.position_mm[0][used] + grid.origin_mm[0]
    assert position.min() >= hole.position_mm.min() - 1e-3
    assert position.max() <= hole.position_mm.max() + 1e-3


def test_a_hole_looks_the_same_alone_and_in_a_batch():
    # Prevents answers that depend on which other holes a worker happened to hold.
    holes = [simulate(name, np.random.default_rng(2)).hole for name in PROGRAMS]
    together = grid_of(*holes)
    for row, hole in enumerate(holes):
        alone = grid_of(hole)
        np.testing.assert_array_equal(together.channels[row], alone.channels[0])
        np.testing.assert_array_equal(together.position_mm[row], alone.position_mm[0])
        np.testing.assert_array_equal(together.used[row], alone.used[0])


def test_a_deep_hole_gets_wider_bins():
    # Prevents an index out of bounds, or a hole that is cut off.
    grid = grid_of(made(np.linspace(1, 400, 3000)))
    assert grid.bin_mm[0] > 10 * BIN_MM
    assert grid.position_mm.max() == pytest.approx(399, abs=2)


def test_step_numbers_that_change_all_the_time_are_ignored():
    # Prevents garbage step numbers from using up all bins.
    smooth = np.linspace(1, 20, 900)
    garbage = grid_of(made(smooth, smooth, np.arange(900)))
    constant = grid_of(made(smooth, smooth, np.ones(900)))
    np.testing.assert_array_equal(garbage.channels, constant.channels)


def test_the_feed_is_seen_at_any_sample_rate():
    # Prevents a network that mistakes a gateway's sample rate for the drill's feed.
    slow = grid_of(made(np.arange(1, 12, 0.02), rate_hz=50.0))
    fast = grid_of(made(np.arange(1, 12, 0.005), rate_hz=200.0))
    middle = slice(20, 180)
    np.testing.assert_allclose(slow.channels[0, 5, middle], fast.channels[0, 5, middle], atol=0.03)


def test_shapes():
    # Prevents a grid that the network can't take.
    grid = grid_of(made(np.linspace(1, 2, 18)), made(np.linspace(1, 30, 20_000)))
    assert grid.channels.shape == (2, CHANNELS, N_BINS)
    assert grid.position_mm.shape == grid.used.shape == (2, N_CELLS)
    assert grid.channels.dtype == grid.position_mm.dtype == grid.used.dtype == np.float32


def test_a_drill_that_stands_still_has_the_pace_of_one_that_does():
    # Prevents a table of logarithms that is as long as the hole took, and one that is too short.
    feed = np.arange(1.0, 10.0, 0.05)
    dwell = np.concatenate([feed, np.full(5000, feed[-1]), feed[-1] + feed])
    alone, quick = made(dwell), made(np.concatenate([feed, feed[-1] + feed]))
    grid = grid_of(alone, quick)
    np.testing.assert_array_equal(grid.channels[0], grid_of(alone).channels[0])
    np.testing.assert_array_equal(grid.channels[1], grid_of(quick).channels[0])
    assert grid.channels[0, 5].max() == pytest.approx(np.log10(5000 / 100 / 0.85), abs=0.02)
