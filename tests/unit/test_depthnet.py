"""The depth network: better than the rule, steady, and never NaN."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from farm.drilling.hole import Hole
from farm.errors import ModelError
from farm.models import depthnet
from farm.models.depthnet import WEIGHTS, DepthModel, DepthNet, read_out
from farm.models.grid import BIN_MM, N_BINS, resample
from farm.models.model import Insufficient, Model
from farm.models.rule import GradientRule
from farm.training.evaluate import draw_holes, errors_mm
from farm.training.programs import PROGRAMS
from farm.training.simulator import simulate
from farm.training.train import depth_loss

PER_PROGRAM = 28  # of seven families: 196 holes


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    # Threads that wait for each other on a busy machine turn 1 s into 20.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model():
    return DepthModel({})


@pytest.fixture(scope="module")
def holes():
    return draw_holes(PER_PROGRAM)


def made(position, torque=None, steps=None):
    position = np.asarray(position, np.float32)
    half = np.arange(len(position)) // max(1, len(position) // 2)
    return Hole(
        position_mm=position,
        torque_a=np.asarray(position * 0 if torque is None else torque, np.float32),
        thrust_a=position * 0,
        step_number=np.asarray(half if steps is None else steps, np.int16),
        steps=(),
    )


def test_it_beats_the_rule_by_median_and_by_95th_percentile(model, holes):
    # Prevents weights that were overwritten, or that no longer fit the grid or the simulator.
    net = np.abs(errors_mm(model, holes))
    rule = np.abs(errors_mm(GradientRule({}), holes))
    for percent in (50, 95):
        ours, theirs = (np.nanpercentile(e, percent, axis=0) for e in (net, rule))
        assert (ours < 0.5 * theirs).all(), (percent, ours, theirs)


def test_its_precision_is_what_we_publish(model, holes):
    # Prevents a slow loss of precision that still beats the rule.
    errors = np.abs(errors_mm(model, holes))
    assert (np.nanmedian(errors, axis=0) < 0.04).all()
    assert (np.nanpercentile(errors, 95, axis=0) < 0.15).all()


def test_a_batch_answers_as_single_holes_do(model, holes):
    # Prevents answers that depend on which other holes a worker happened to hold.
    mixed = [hole.hole for hole in holes[:: PER_PROGRAM // 4]]
    together = [answer["keypoints_mm"] for answer in model.infer(mixed)]
    alone = [model.infer([hole])[0]["keypoints_mm"] for hole in mixed]
    np.testing.assert_allclose(together, alone, atol=1e-3)


def test_refusals_keep_their_place_in_a_batch(model, holes):
    # Prevents an answer from going to its neighbour's hole.
    single = simulate("HAM", np.random.default_rng(0), single_step=True).hole
    good = holes[0].hole
    answers = model.infer([single, good, made(np.arange(17.0))])
    assert answers[0] == Insufficient("Not enough steps to estimate depth")
    assert answers[1]["keypoints_mm"] == pytest.approx(model.infer([good])[0]["keypoints_mm"])
    assert answers[2] == Insufficient("Too few samples to estimate depth")
    assert model.infer([]) == []


ODD = {
    "zeros": made(np.zeros(500)),
    "constant": made(np.full(500, 7.0), np.full(500, 3.0)),
    "reversed": made(np.linspace(30, 1, 1000), np.linspace(0, 9, 1000)),
    "shortest": made(np.linspace(1, 3, 18), np.linspace(0, 9, 18)),
    "longest": made(np.linspace(1, 36, 20_000), np.linspace(0, 9, 20_000)),
    "deep": made(np.linspace(1, 400, 3000), np.linspace(0, 9, 3000)),
    "jump": made([1.0] * 20 + [300.0] * 20),
    "huge": made(np.linspace(0, 3e38, 100), np.linspace(-3e38, 3e38, 100)),
    "negative torque": made(np.linspace(1, 20, 900), np.linspace(0, -9, 900)),
    "every sample a step": made(np.linspace(1, 20, 900), steps=np.arange(900)),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_traces_give_ordered_finite_answers(model, name):
    # Prevents NaN in an answer, and keypoints outside of the hole.
    hole = ODD[name]
    found = model.infer([hole])[0]["keypoints_mm"]
    assert np.isfinite(found).all()
    assert found == sorted(found), "no negative depth"
    width = resample(hole).bin_mm
    assert hole.position_mm[0] <= found[0]
    assert found[2] <= hole.position_mm.astype(float).max() + width


def test_an_odd_hole_does_not_disturb_its_batch(model, holes):
    # Prevents one garbage trace from spoiling the answers of a whole batch.
    good = holes[5].hole
    together = model.infer([*ODD.values(), good])[-1]["keypoints_mm"]
    assert together == pytest.approx(model.infer([good])[0]["keypoints_mm"], abs=1e-3)


def test_the_version_and_the_hash_are_of_the_weights(model):
    # Prevents answers that can't be traced to what made them.
    assert isinstance(model, Model)
    assert model.version == "depthnet-1"
    assert model.content_hash == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:16]
    model.warm_up()


def test_it_stays_small():
    # Prevents a network or a file that an edge box would feel.
    assert sum(p.numel() for p in DepthNet().parameters()) <= 200_000
    assert WEIGHTS.stat().st_size < 900_000


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda _: b"", "corrupt"),
        (lambda payload: payload[: len(payload) // 2], "corrupt"),
        (lambda _: b"not a weights file at all" * 40, "corrupt"),
        (lambda p: p[:400_000] + bytes([p[400_000] ^ 1]) + p[400_001:], "checksum"),
    ],
)
def test_corrupt_weights_are_a_model_error_with_a_cure(tmp_path, spoil, cause):
    # Prevents a worker that comes up with garbage, or dies with torch's own traceback.
    path = tmp_path / "w.pt"
    path.write_bytes(spoil(WEIGHTS.read_bytes()))
    with pytest.raises(ModelError, match=rf"{cause}.*farm train"):
        DepthModel({"weights": str(path)})


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ({"version": "depthnet-0", "state": {}}, "depthnet-0"),
        ({"version": "depthnet-1", "state": {}}, "do not fit"),
        ({"version": "depthnet-1"}, "do not fit"),
        ([1, 2], "None"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, content, cause):
    # Prevents half-loaded networks after an upgrade.
    path = tmp_path / "w.pt"
    torch.save(content, path)
    with pytest.raises(ModelError, match=cause):
        DepthModel({"weights": path})


def test_weights_with_code_inside_are_not_run(tmp_path):
    # Prevents a weights file from running commands on the machine that loads it.
    class Payload:
        def __reduce__(self):
            return (exec, ("raise SystemExit",))

    path = tmp_path / "w.pt"
    torch.save({"version": "depthnet-1", "state": Payload()}, path)
    with pytest.raises(ModelError, match="corrupt"):
        DepthModel({"weights": path})


def test_missing_weights_and_unknown_settings_are_named(tmp_path):
    # Prevents a misspelt setting from silently using the built-in weights.
    with pytest.raises(ModelError, match="can't read"):
        DepthModel({"weights": tmp_path / "none.pt"})
    with pytest.raises(ModelError, match="'weight' is unknown"):
        DepthModel({"weight": "x"})


def test_other_weights_give_another_hash(tmp_path, model):
    # Prevents retrained weights from being mistaken for the built-in ones.
    path = tmp_path / "own.pt"
    depthnet.save_weights(DepthNet(), path, {"seed": 0})
    assert DepthModel({"weights": path}).content_hash != model.content_hash


def test_the_read_out_is_finer_than_a_bin():
    # Prevents an answer in steps of 0.05 mm.
    index = torch.arange(N_BINS) + 0.5
    truth = torch.tensor([100.3, 300.8, 500.1])
    logits = -0.5 * ((index - truth[:, None]) / 1.5) ** 2
    found = read_out(logits[None], torch.tensor([N_BINS]))[0]
    torch.testing.assert_close(found, truth, atol=0.02, rtol=0)


def test_the_read_out_keeps_the_keypoints_in_order():
    # Prevents negative depths where a heat map has its peak on the wrong side.
    logits = torch.zeros(1, 3, N_BINS)
    logits[0, 0, 400] = logits[0, 1, 100] = logits[0, 2, 50] = 20
    entry, transition, exit_ = read_out(logits, torch.tensor([N_BINS]))[0].tolist()
    assert entry <= transition <= exit_ <= N_BINS


def test_a_missing_transition_costs_nothing():
    # Prevents single-material holes from teaching a transition at bin -1.
    logits = torch.randn(2, 3, N_BINS, generator=torch.Generator().manual_seed(0))
    used = torch.tensor([700, 700])
    target = torch.tensor([[50.0, -1.0, 300.0], [60.0, -1.0, 320.0]])
    moved = logits.clone()
    moved[:, 1] = 0
    torch.testing.assert_close(depth_loss(logits, target, used), depth_loss(moved, target, used))
    known = target.clamp(min=100)
    assert depth_loss(logits, known, used) != depth_loss(moved, known, used)


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_the_grid_marks_each_step_change_once(name):
    # Prevents a network that can't see where the machine changed feed.
    hole = simulate(name, np.random.default_rng(4)).hole
    grid = resample(hole)
    assert grid.bin_mm == pytest.approx(BIN_MM)
    assert grid.channels[5].sum() == len(hole.steps) - 1
    assert np.isfinite(grid.channels).all()
    assert not grid.channels[:, grid.used :].any()


def test_the_grid_leaves_out_the_pull_back():
    # Prevents the air torque of a step change from hiding the load at the same depth.
    feed = np.arange(1.0, 10.0, 0.05)
    position = np.concatenate([feed[:100], feed[99] - np.linspace(0.3, 0.02, 200), feed[100:]])
    torque = np.full(len(position), 5.0)
    torque[100:300] = 0.0
    grid = resample(made(position, torque))
    amperes = np.sinh(5 * grid.channels[1, : grid.used]) * 0.1
    np.testing.assert_allclose(amperes, 5.0, rtol=1e-3)


def test_the_grid_places_a_sparse_sample_where_it_was_taken():
    # Prevents half a bin of error where a fast feed leaves one sample a bin.
    position = np.arange(1.0, 12.0, 0.042)
    grid = resample(made(position, position))
    centres = grid.origin_mm + grid.bin_mm * (np.arange(grid.used) + 0.5)
    amperes = np.sinh(5 * grid.channels[1, : grid.used]) * 0.1
    np.testing.assert_allclose(amperes[2:-2], centres[2:-2], atol=0.005)
