"""The network's read-out: finer than a cell, in order, never NaN."""

from __future__ import annotations

import pytest
import torch

from farm.models.answer import COLUMNS, KEYPOINTS, POINTS
from farm.models.grid import CHANNELS, N_BINS, N_CELLS
from farm.models.network import READ_OUT_CELLS, DepthNet, read_out

CELL_MM = 0.1


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(1)
    return DepthNet().eval()


def positions(b):
    return (CELL_MM * (torch.arange(N_CELLS) + 0.5)).expand(b, -1)


def test_the_read_out_is_finer_than_a_cell():
    # Prevents an answer in steps of 0.1 mm.
    truth = torch.tensor([[10.03, 20.08, 30.01, 5.0, 6.04, 7.07]])
    logits = -0.5 * ((positions(1)[:, None] - truth[:, :, None]) / 0.1) ** 2
    peak = logits.argmax(2)
    torch.testing.assert_close(read_out(logits, positions(1), peak)[0], truth, atol=0.01, rtol=0)


def test_a_second_peak_far_away_does_not_pull_the_answer():
    # Prevents an answer between two possible places, where nothing is.
    near, far = -0.5 * ((positions(1) - 10.0) / 0.1) ** 2, -0.5 * ((positions(1) - 30.0) / 0.1) ** 2
    logits = torch.logaddexp(near, far - 0.5)[:, None].expand(-1, POINTS, -1)
    centre, _, elsewhere, _ = read_out(logits, positions(1), logits.argmax(2))
    assert centre[0, 0] == pytest.approx(10.0, abs=0.05)
    one = near[:, None].expand(-1, POINTS, -1)
    assert elsewhere[0, 0] > read_out(one, positions(1), one.argmax(2))[2][0, 0], (
        "and it is noticed"
    )


def test_the_read_out_spans_both_sides_of_a_step_change():
    # Prevents a wrong mean where the path goes back: cells beside each other need not be.
    position = positions(1).clone()
    position[:, 200:] -= 0.3
    logits = torch.full((1, POINTS, N_CELLS), -30.0)
    logits[:, :, [199, 203]] = 0.0
    centre = read_out(logits, position, torch.full((1, POINTS), 199))[0]
    assert READ_OUT_CELLS >= 4
    assert centre[0, 0] == pytest.approx(float(position[0, [199, 203]].mean()), abs=1e-3)


def test_answers_are_finite_and_in_their_ranges(net):
    # Prevents NaN from an input that no drill makes, and probabilities beyond 1.
    for scale in (0.0, 1.0, 1e4):
        channels = scale * torch.randn(3, CHANNELS, N_BINS)
        used = torch.zeros(3, N_CELLS)
        used[:, : 1 + int(scale) % 300] = 1
        with torch.inference_mode():
            columns = net(channels, positions(3), used)
        assert columns.shape == (3, COLUMNS)
        assert torch.isfinite(columns).all()
        assert (columns[:, POINTS : 2 * POINTS] > 0).all(), "a sigma is positive"
        assert (columns[:, 2 * POINTS :] >= 0).all()
        assert (columns[:, 2 * POINTS :] <= 1).all()


def test_peaks_are_in_order_of_depth(net):
    # Prevents negative depths where a heat map has its peak on the wrong side.
    with torch.inference_mode():
        estimate = net.estimate(
            torch.randn(20, CHANNELS, N_BINS), positions(20), torch.ones(20, N_CELLS)
        )
    point = estimate.point_mm
    for channel in (point[:, :KEYPOINTS], point[:, KEYPOINTS:]):
        # Windows of neighbouring peaks may overlap by half their width.
        assert (channel.diff(dim=1) > -2 * READ_OUT_CELLS * CELL_MM).all()


def test_no_keypoint_lies_where_the_hole_has_ended(net):
    # Prevents keypoints read out of the empty end of the grid.
    used = torch.zeros(5, N_CELLS)
    used[:, :80] = 1
    with torch.inference_mode():
        columns = net(torch.randn(5, CHANNELS, N_BINS), positions(5), used)
    assert (columns[:, :POINTS] <= 80 * CELL_MM).all()


def test_half_precision_features_keep_the_read_out_exact(net):
    # Prevents positions that are rounded to bfloat16: 30 mm would move by 0.1.
    inputs = (torch.randn(4, CHANNELS, N_BINS), positions(4), torch.ones(4, N_CELLS))
    with torch.inference_mode():
        estimate = net.estimate(*inputs, half=True)
    assert estimate.point_mm.dtype == torch.float32
    assert estimate.logits.dtype == torch.float32


def test_it_stays_small():
    # Prevents a network that an edge box would feel.
    assert sum(p.numel() for p in DepthNet().parameters()) <= 225_000
