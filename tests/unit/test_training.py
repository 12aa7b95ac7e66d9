"""Training and evaluation: they run, they learn, and they say what they measured."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from farm.cli.train import command
from farm.errors import ConfigError
from farm.models.depthnet import DepthModel, DepthNet
from farm.models.grid import BIN_MM
from farm.models.model import Insufficient, depth_answer
from farm.training.dataset import NO_TRANSITION, HoleStream
from farm.training.evaluate import ALL, TEST_SEED, draw_holes, errors_mm, evaluate, table
from farm.training.train import depth_loss, train


@pytest.fixture(autouse=True)
def one_thread():
    # Threads that wait for each other on a busy machine turn 1 s into 20.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Oracle:
    """Knows the truth of the holes and answers it, shifted; refuses every seventh hole."""

    version, content_hash = "oracle-1", "0"

    def __init__(self, holes, shift_mm=0.0):
        self.truth = {id(h.hole): h.keypoints_mm for h in holes}
        self.order = {id(h.hole): i for i, h in enumerate(holes)}
        self.shift_mm = shift_mm

    def warm_up(self):
        pass

    def infer(self, inputs):
        return [self._answer(hole) for hole in inputs]

    def _answer(self, hole):
        if self.order[id(hole)] % 7 == 0:
            return Insufficient("none today")
        return depth_answer([(k or 0.0) + self.shift_mm for k in self.truth[id(hole)]])


def test_a_few_steps_on_one_batch_lower_its_loss():
    # Prevents a loss whose gradient does not reach the network.
    torch.manual_seed(0)
    examples = list(itertools.islice(HoleStream(3), 8))
    channels, target, used = (torch.stack(column) for column in zip(*examples, strict=True))
    net = DepthNet().train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = depth_loss(net(channels), target, used)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_the_stream_repeats_by_seed_and_stays_on_the_grid():
    # Prevents targets beside the grid, and training runs that can't be repeated.
    one, two = (list(itertools.islice(HoleStream(5), 20)) for _ in range(2))
    for (channels, target, used), (again, *_) in zip(one, two, strict=True):
        torch.testing.assert_close(channels, again)
        known = target[target != NO_TRANSITION]
        assert (known > 0).all()
        assert (known < used + 1).all()
        assert (known.diff() > 1 / BIN_MM).all(), "no layer is thinner than a millimetre"
    assert any(NO_TRANSITION in target for _, target, _ in one), "single-material holes occur"


def test_training_writes_weights_that_load(tmp_path):
    # Prevents a `farm train` that runs for hours and leaves a file no worker can hold.
    out, lines = tmp_path / "deep" / "w.pt", []
    train(minutes=0.005, seed=4, out=out, progress=lines.append)
    assert DepthModel({"weights": out}).version == "depthnet-1"
    saved = torch.load(out, weights_only=True)
    assert saved["seed"] == 4
    assert saved["steps"] >= 1
    assert str(out) in lines[-1]


def test_errors_are_answer_minus_truth_and_leave_out_what_has_none():
    # Prevents a table that hides refusals as zeros or counts transitions that don't exist.
    holes = draw_holes(3)
    errors = errors_mm(Oracle(holes, shift_mm=0.5), holes)
    assert np.isnan(errors[::7]).all()
    np.testing.assert_allclose(errors[np.isfinite(errors)], 0.5)
    single = [i for i, h in enumerate(holes) if h.keypoints_mm[1] is None]
    assert np.isnan(errors[single, 1]).all()


def test_scores_are_by_family_and_over_all():
    # Prevents a family from vanishing in the average.
    holes = draw_holes(3)
    models = {"exact": Oracle(holes), "off": Oracle(holes, shift_mm=-0.25)}
    scores = evaluate(models, holes)
    assert {s.program for s in scores} == {h.program for h in holes} | {ALL}
    overall = {s.model: s for s in scores if s.program == ALL}
    assert overall["off"].median_mm == pytest.approx((0.25,) * 3)
    assert overall["exact"].p95_mm == pytest.approx((0,) * 3)
    assert overall["exact"].holes == len(holes) - 3, "refused holes are not counted"
    text = table(scores)
    assert "0.25 / 0.25" in text
    assert "-" in next(line for line in text.splitlines() if line.startswith("AL"))


def test_the_test_holes_are_the_same_for_everybody():
    # Prevents two tables that can't be compared.
    one, two = draw_holes(1), draw_holes(1)
    assert [h.keypoints_mm for h in one] == [h.keypoints_mm for h in two]


def test_the_test_seed_is_refused_for_training():
    # Prevents a network that has seen its test holes.
    result = CliRunner().invoke(command, ["--seed", str(TEST_SEED)])
    assert isinstance(result.exception, ConfigError)


def test_evaluating_only_prints_the_table_and_writes_nothing(tmp_path, monkeypatch):
    # Prevents --evaluate-only from overwriting weights.
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, ["--evaluate-only", "--holes", "2"])
    assert result.exit_code == 0, result.output
    assert "depthnet" in result.output
    assert "rule" in result.output
    assert not list(tmp_path.iterdir())
