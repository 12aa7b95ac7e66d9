"""Training and evaluation: they learn, go on where they stopped, and say what they measured."""

from __future__ import annotations

import csv
import json
import math
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from click.testing import CliRunner

from farm.cli import root
from farm.cli.train import command as train_command
from farm.drilling import plotting
from farm.drilling.hole import Hole
from farm.errors import ConfigError, FarmError, ModelError
from farm.models.answer import POINTS
from farm.models.depthnet import DepthModel
from farm.models.grid import N_CELLS
from farm.models.model import Insufficient, depth_answer
from farm.models.network import DepthNet, Estimate
from farm.models.package import MANIFEST, open_package
from farm.models.registry import LIBRARY
from farm.simulation.archive import INDEX_FILE, TRACE_FILE, truth_of, write_archive
from farm.simulation.drilled import Recipe as Drilling
from farm.simulation.drilled import series
from farm.training import calibrate as calibration
from farm.training import evaluate as evaluation
from farm.training import publish as publishing
from farm.training import train as training
from farm.training.calibrate import calibrate
from farm.training.card import metrics
from farm.training.checkpoint import CHECKPOINT, load_checkpoint
from farm.training.dataset import Recipe, make_batch
from farm.training.evaluate import ALL, TEST_SEED, _spread, judge, score, simulated_holes
from farm.training.loss import _pinball, is_good, losses
from farm.training.programs import FAMILIES
from farm.training.publish import publish
from farm.training.recorded import LabelledHole, from_simulated, read_labelled
from farm.training.report import calibration_page
from farm.training.simulator import SimulatedHole
from farm.training.train import Plan, Trained, train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def archive(tmp_path):
    """Six recorded holes with their labels."""
    folder = tmp_path / "holes"
    write_archive(folder, series([Drilling("V6-V7", "2025-03")], count=6, seed=1))
    return folder


def no_progress(_done, _losses):
    pass


def test_a_few_steps_on_one_batch_lower_its_loss():
    # Prevents a loss whose gradient does not reach the network.
    torch.manual_seed(0)
    batch = make_batch(Recipe(3, 8), 0)
    net = DepthNet().train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    seen = []
    for _ in range(12):
        optimiser.zero_grad()
        parts = losses(net.estimate(batch.channels, batch.position_mm, batch.used), batch)
        total = torch.stack(tuple(parts.values())).sum()
        total.backward()
        optimiser.step()
        seen.append(total.item())
    assert seen[-1] < 0.8 * seen[0]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_batches_repeat_by_seed_and_number():
    # Prevents training runs that can't be repeated or gone on with.
    one, two, other = (
        make_batch(Recipe(5, 6), 7),
        make_batch(Recipe(5, 6), 7),
        make_batch(Recipe(5, 6), 8),
    )
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, equal_nan=True)
    assert not torch.equal(one.channels, other.channels)


def test_targets_lie_on_the_path_of_the_drill():
    # Prevents targets beside the grid, that no heat map could ever hold.
    batch = make_batch(Recipe(5, 64, faults=0), 0)
    last = torch.where(batch.used > 0, batch.position_mm, 0).amax(1, keepdim=True)
    known = ~batch.point_mm.isnan()
    assert known[:, [0, 2]].all()
    assert ((batch.point_mm < last) | ~known).all()
    assert (batch.point_mm[known] > -0.5).all()
    assert batch.exists[:, 1].mean() < 0.95, "single-material holes occur"


def estimate_for(examples, point_mm, exists=20.0):
    b = len(examples.point_mm)
    return Estimate(
        logits=torch.zeros(b, POINTS, N_CELLS),
        point_mm=point_mm,
        log_spread=torch.zeros(b, POINTS, 2),
        exists=torch.full((b, 3), exists),
        quality=torch.zeros(b),
    )


def test_what_is_unknown_costs_nothing():
    # Prevents single-material holes from teaching a transition at 0 mm, and unclear ends anything.
    batch = make_batch(Recipe(5, 4, faults=0), 0)
    batch.point_mm[:, 1] = math.nan
    batch.exists[:, 1] = math.nan
    guess = batch.point_mm.nan_to_num(5.0)
    moved = guess.clone()
    moved[:, 1] = 25.0
    for name, part in losses(estimate_for(batch, guess), batch).items():
        torch.testing.assert_close(losses(estimate_for(batch, moved), batch)[name], part)


def test_quality_is_learnt_from_what_is_right():
    # Prevents a quality of something else than all keypoints within half a millimetre.
    batch = make_batch(Recipe(5, 4, faults=0), 1)
    exact = batch.point_mm.nan_to_num(0.0)
    guess = exact.clone()
    guess[0, 0] += 0.6
    guess[1, 2] += 0.4
    wanted = torch.tensor([0.0, 1.0, 1.0, 1.0])
    told = estimate_for(batch, guess)
    told.exists = torch.where(batch.exists > 0, 5.0, -5.0)
    torch.testing.assert_close(is_good(told, batch), wanted)
    told.exists[2, 2] *= -1
    assert is_good(told, batch)[2] == 0, "an exit denied is wrong too"


def test_spread_is_pulled_to_the_quantiles_of_the_errors():
    # Prevents a sigma that is calibrated to something else.
    errors = torch.distributions.HalfNormal(0.1).sample((4000, 1)).expand(-1, POINTS)
    spread = torch.zeros(POINTS, 2, requires_grad=True)
    optimiser = torch.optim.Adam([spread], lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        _pinball(errors, spread.expand(4000, -1, -1)).mean().backward()
        optimiser.step()
    found = spread.detach().exp()[0]
    assert found[0] == pytest.approx(0.1, rel=0.1)
    assert found[1] == pytest.approx(0.196, rel=0.12)


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path):
    # Prevents a resumed run that has learnt something else, or begins anew without a word.
    plan = Plan(holes=160, batch=16, seed=3)
    whole = train(plan, folder=tmp_path / "whole", progress=no_progress)

    def stop(done, _losses):
        if done == 80:
            raise KeyboardInterrupt

    folder = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        train(plan, folder=folder, progress=stop)
    seen = []
    resumed = train(plan, folder=folder, resume=True, progress=lambda done, _l: seen.append(done))
    assert seen[0] == 80 + 16 or seen[0] == 80
    assert seen[-1] == 160
    for name, value in whole.net.state_dict().items():
        torch.testing.assert_close(resumed.net.state_dict()[name], value, atol=2e-3, rtol=1e-2)
    assert resumed.told["cpu_s"] > 0
    # What is finished comes back as it was, without a step: publishing may have failed.
    again = train(plan, folder=folder, resume=True, progress=lambda *_: pytest.fail("a step"))
    for name, value in again.net.state_dict().items():
        assert torch.equal(resumed.net.state_dict()[name], value)
    assert again.told["losses"] == resumed.told["losses"]


def test_the_loader_counts_while_it_lives(monkeypatch):
    # Prevents a cost without the process that makes the holes, half of it, in a run taken up again.
    class Gone:
        def cpu_times(self):
            raise psutil.NoSuchProcess(7)

    loader = SimpleNamespace(cpu_times=lambda: SimpleNamespace(user=9e6, system=1e6))
    family = SimpleNamespace(children=lambda: [loader, Gone()])
    monkeypatch.setattr(training.psutil, "Process", lambda: family)
    assert training._cpu_s() >= 1e7


def test_resuming_what_is_not_there_or_is_another_plan_is_told(tmp_path):
    # Prevents hours of training that mix two plans.
    plan = Plan(holes=64, batch=16)
    with pytest.raises(ModelError, match="no stopped run"):
        train(plan, folder=tmp_path, progress=no_progress, resume=True)

    def stop(_done, _losses):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(plan, folder=tmp_path, progress=stop)
    with pytest.raises(ModelError, match="another learning_rate"):
        train(Plan(holes=64, batch=16, learning_rate=0.1), folder=tmp_path, progress=no_progress,
              resume=True)  # fmt: skip
    (tmp_path / CHECKPOINT).write_bytes(b"junk")
    net = DepthNet()
    with pytest.raises(ModelError, match="start anew with --overwrite"):
        load_checkpoint(tmp_path / CHECKPOINT, net, torch.optim.AdamW(net.parameters()))


def test_calibration_scales_sigmas_so_that_intervals_hold(monkeypatch):
    # Prevents intervals that hold by luck: a network that is too sure must be corrected.
    rng = np.random.default_rng(0)
    scaled = np.abs(1.5 * rng.standard_normal((5000, POINTS))).astype(np.float32)
    monkeypatch.setattr(calibration, "_scaled_errors", lambda _net, _holes: scaled)
    net = DepthNet()
    assert calibrate(net, holes=1) == pytest.approx([1.5] * POINTS, rel=0.07)
    assert net.calibration.exp().tolist() == pytest.approx([1.5] * POINTS, rel=0.07)


def test_a_published_network_is_a_model_that_loads(tmp_path):
    # Prevents a `farm train` that runs for hours and leaves a folder no worker can hold.
    trained = Trained(DepthNet().eval(), {"holes": 64, "seed": 9})
    publish(
        trained, tmp_path / "7", name="own-1", test_holes=2, calibration_holes=64,
        notes="\n## Mine\n",
    )  # fmt: skip
    package = open_package(tmp_path / "7")
    assert package.manifest.training["seed"] == 9
    assert package.manifest.metrics["all"]["holes"] > 0
    assert package.verify()
    card = (tmp_path / "7" / "CARD.md").read_text()
    assert card.startswith("# own-1")
    assert card.endswith("## Mine\n")
    for runtime in ("frozen", "onnx", "int8"):
        assert DepthModel({"weights": str(tmp_path / "7"), "runtime": runtime}).version == "own-1"


def test_recorded_holes_are_read_with_their_labels(archive):
    # Prevents labels that end up at another hole.
    found = read_labelled(archive)
    with (archive / INDEX_FILE).open(newline="") as file:
        rows = {row["hole"]: row for row in csv.DictReader(file)}
    assert len(found) == 6
    for one in found:
        assert one.keypoints_mm[0] == pytest.approx(float(rows[one.name]["entry_mm"]))
        assert one.family == "V6-V7"
        assert len(one.hole) == int(rows[one.name]["samples"])


HEAD = "hole,entry_mm,transition_mm,exit_mm\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "can't read the labels"),
        ("hole,entry_mm\n01,5\n", ":2: "),
        ("hole,entry_mm,transition_mm,exit_mm\n01-V6-V7-2025-03,five,6,7\n", "'five'"),
        ("hole,entry_mm,transition_mm,exit_mm\nother,5,6,7\n", "names none of the holes"),
        ("entry_mm,transition_mm,exit_mm\n5,6,7\n", "hole"),
        (HEAD + "01-V6-V7-2025-03,,,\n", "has no label"),
        (HEAD + "01-V6-V7-2025-03,-5,-10,-15\n", r":2: hole 01-.* positive"),
        (HEAD + "01-V6-V7-2025-03,5,6000,\n", "transition at 6000 mm is not within"),
        (HEAD + "01-V6-V7-2025-03,5,,5\n", "entry at 5 mm is not before its exit"),
        (HEAD + "01-V6-V7-2025-03,5,,15\nother,5,6,7\n", ":3: there is no folder .*remove"),
        (HEAD + 2 * "01-V6-V7-2025-03,5,,15\n", ":3: 01-V6-V7-2025-03 has a row already"),
    ],
)
def test_labels_that_can_not_be_used_say_why(archive, text, words):
    # Prevents a training on wrong labels, or a traceback of csv's.
    (archive / INDEX_FILE).unlink()
    if text is not None:
        (archive / INDEX_FILE).write_text(text)
    with pytest.raises(FarmError, match=words):
        read_labelled(archive)


def test_only_what_the_index_names_is_read(archive):
    # Prevents one broken folder of hundreds, that nobody labelled, from stopping it all.
    broken, good = archive / "01-V6-V7-2025-03", "02-V6-V7-2025-03"
    (broken / TRACE_FILE).unlink()
    (archive / INDEX_FILE).write_text(HEAD + good + ",5,,15\n", encoding="utf-8-sig")
    assert [hole.name for hole in read_labelled(archive)] == [good]
    (archive / INDEX_FILE).write_text(HEAD + good + ",5,,15\n" + broken.name + ",5,,15\n")
    with pytest.raises(FarmError, match=r"index\.csv:3: .*Trace\.json.*mend the hole, or take"):
        read_labelled(archive)


def test_a_hole_is_usable_if_its_row_says_so_or_has_both_ends(archive):
    # Prevents bad holes without the column from being counted as refused good ones.
    rows = (
        ",5,,15,",
        ",5,,,",
        ",5,,15,no (edge case)",
        ',5,,,"partial (both, ends)"',
        ",5,,15,yes",
    )
    names = [f"{number:02d}-V6-V7-2025-03" for number in range(1, 6)]
    text = "".join(f"{name}{row}\n" for name, row in zip(names, rows, strict=True))
    (archive / INDEX_FILE).write_text(HEAD.replace("\n", ",usable\n") + text)
    assert [h.usable for h in read_labelled(archive)] == [True, False, False, True, True]
    (archive / INDEX_FILE).write_text(HEAD + "".join(f"{name},5,,\n" for name in names))
    assert not any(h.usable for h in read_labelled(archive))


def test_a_simulated_archive_with_faults_says_which_are_bad(tmp_path):
    # Prevents `farm evaluate` from asking for answers to holes that were aborted or are one step.
    recipes = [Drilling("V6-V7", "2025-03", single_step=s, faults=3) for s in (False, False, True)]
    made = list(series(recipes, count=30, seed=4))
    write_archive(tmp_path, made)
    with (tmp_path / INDEX_FILE).open(newline="") as file:
        told = [row["usable"] for row in csv.DictReader(file)]
    expected = [h.usable for h in from_simulated([hole.truth for hole in made])]
    assert told == ["yes" if usable else "no" for usable in expected]
    assert [h.usable for h in read_labelled(tmp_path)] == expected
    assert set(told[::3]) == {"yes", "no"}
    assert set(told[2::3]) == {"no"}


def test_a_keypoint_that_was_not_recorded_is_none():
    # Prevents an archive of `farm simulate --faults` that `farm train` refuses.
    ramp = np.linspace(2, 20, 50, dtype=np.float32)
    hole = Hole(ramp, ramp, ramp, np.ones(50, np.int16), ())
    late = SimulatedHole(hole, (1.2, 10.0, 15.0), "V8", ramp)
    assert np.isnan(truth_of(late)).tolist() == [True, False, False]


def test_recorded_holes_are_learnt_from(archive):
    # Prevents --data from being read and left unused.
    recorded = read_labelled(archive)
    batch = make_batch(Recipe(1, 8, data_share=0.5), 0, recorded)
    assert len(batch.channels) == 8
    assert batch.point_mm[4:, 3:].isnan().all(), "nobody labelled the tip of recorded holes"
    whole = make_batch(Recipe(1, 8, data_share=1.0), 0, recorded)
    truths = {round(h.keypoints_mm[0] - float(h.hole.position_mm[0]), 3) for h in recorded}
    assert {round(float(k), 3) for k in whole.point_mm[:, 0]} <= truths


class Oracle:
    """Knows the truth of the holes and answers it, shifted; refuses every seventh hole."""

    version, content_hash = "oracle-1", "0"

    def __init__(self, holes, shift_mm=0.0, sigma_mm=None, quality=None):
        self.truth = {id(h.hole): h.keypoints_mm for h in holes}
        self.order = {id(h.hole): i for i, h in enumerate(holes)}
        self.shift_mm, self.sigma_mm, self.quality = shift_mm, sigma_mm, quality

    def warm_up(self):
        pass

    def infer(self, inputs):
        return [self._answer(hole) for hole in inputs]

    def _answer(self, hole):
        if self.order[id(hole)] % 7 == 0:
            return Insufficient("none today")
        known = [k for k in self.truth[id(hole)] if not math.isnan(k)]
        sigma = None if self.sigma_mm is None else [self.sigma_mm] * len(known)
        return depth_answer(
            [k + self.shift_mm for k in known], sigma_mm=sigma, quality=self.quality
        )


@pytest.fixture(scope="module")
def good_holes():
    return simulated_holes(4, faults=0)


def test_errors_are_answer_minus_truth_and_leave_out_what_has_none(good_holes):
    # Prevents a table that hides refusals as zeros or counts transitions that don't exist.
    verdicts = judge(Oracle(good_holes, shift_mm=0.5), good_holes)
    errors = np.array([v.error_mm for v in verdicts])
    assert np.isnan(errors[::7]).all()
    answered = np.delete(errors, np.s_[::7], axis=0)
    np.testing.assert_allclose(answered[:, [0, 2]], 0.5)
    np.testing.assert_allclose(answered[:, 3], 0.0, atol=1e-9)
    assert [v.is_refused for v in verdicts].count(True) == -(-len(good_holes) // 7)
    single = [i for i, h in enumerate(good_holes) if math.isnan(h.keypoints_mm[1])]
    assert single
    assert np.isnan(errors[single, 1]).all()


def test_scores_are_by_family_and_over_all(good_holes):
    # Prevents a family from vanishing in the average.
    scores = score("off", judge(Oracle(good_holes, shift_mm=-0.25, sigma_mm=0.2), good_holes))
    assert [s.family for s in scores] == [*dict.fromkeys(h.family for h in good_holes), ALL]
    overall = scores[-1]
    np.testing.assert_allclose(overall.median_mm, (0.25, 0.25, 0.25, 0.0), atol=1e-9)
    np.testing.assert_allclose(overall.coverage, (0.0, 1.0))
    np.testing.assert_allclose(overall.bias_mm, (-0.25, -0.25, -0.25, 0.0), atol=1e-9)
    np.testing.assert_allclose(overall.spread_mm, 0.0, atol=1e-9)
    assert overall.refused == -(-len(good_holes) // 7)


def test_spread_is_the_sd_of_all_but_the_few_that_are_far_off():
    # Prevents a spread that one wrong hole in twenty doubles.
    errors = np.random.default_rng(1).normal(0.3, 0.1, 4000)
    errors[::20] += 9
    assert _spread(np.append(errors, math.nan)) == pytest.approx(0.1, rel=0.1)
    assert math.isnan(_spread(np.array([math.nan])))


def test_metrics_leave_out_what_there_is_none_of(good_holes):
    # Prevents NaN in manifests and in `farm evaluate --json`, which is no JSON.
    single = [h for h in good_holes if math.isnan(h.keypoints_mm[1])]
    told = metrics(score("rule", judge(Oracle(single, shift_mm=0.5), single)))
    json.dumps(told, allow_nan=False)
    assert not {"coverage", "transition_mm"} & set(told[ALL])
    assert told[ALL]["bias_mm"] == {"entry": 0.5, "exit": 0.5, "depth": 0.0}
    assert set(told[ALL]["spread_mm"]) == {"entry", "exit", "depth"}
    assert (told[ALL]["refused"], told[ALL]["wrong"]) == (-(-len(single) // 7), 0.0)
    assert "coverage" in metrics(score("net", judge(Oracle(single, sigma_mm=0.2), single)))[ALL]


def wrong_share(hole, answer, quality):
    class One:
        version, content_hash = "one-1", "0"

        def infer(self, inputs):
            return [depth_answer(answer, quality=quality) for _ in inputs]

    found = score("one", judge(One(), [hole]))[-1]
    return found.wrong, found.wrong_with_confidence


def test_wrong_is_off_by_a_millimetre_a_layer_or_a_bad_hole():
    # Prevents mistakes that a table of medians would never show.
    samples = Hole(*[np.ones(20, np.float32)] * 3, np.ones(20, np.int16), ())
    nan = math.nan
    two = LabelledHole("a", "f", samples, (5.0, 10.0, 15.0))
    one = LabelledHole("b", "f", samples, (5.0, nan, 15.0))
    bad = LabelledHole("c", "f", samples, (5.0, nan, nan), usable=False)
    assert wrong_share(two, [5.0, 10.9, 15.0], 0.95) == (0, 0)
    assert wrong_share(two, [5.0, 11.1, 15.0], 0.95) == (1, 1)
    assert wrong_share(two, [5.0, 11.1, 15.0], 0.5) == (1, 0)
    assert wrong_share(two, [5.0, 15.0], 0.95) == (1, 1)
    assert wrong_share(one, [5.0, 10.0, 15.0], 0.95) == (1, 1)
    assert wrong_share(one, [5.0, 15.0], 0.95) == (0, 0)
    assert wrong_share(bad, [5.0, 10.0, 15.0], 0.95) == (1, 1)
    assert wrong_share(two, [5.0, 11.1, 15.0], None) == (1, 1), "who says nothing stands by it"


def test_the_test_holes_are_the_same_for_everybody():
    # Prevents two tables that can't be compared.
    one, two = simulated_holes(1), simulated_holes(1)
    assert [str(h.keypoints_mm) for h in one] == [str(h.keypoints_mm) for h in two]


def test_a_familys_test_holes_are_its_own(monkeypatch):
    # Prevents new holes for all families when one of them changes, or more are asked for.
    real, states = evaluation.simulate_batch, []

    def spy(families, rng, **rest):
        states.append(str(rng.bit_generator.state))
        return real(families, rng, **rest)

    monkeypatch.setattr(evaluation, "simulate_batch", spy)
    simulated_holes(1)
    simulated_holes(2)
    assert states[: len(FAMILIES)] == states[len(FAMILIES) :]
    assert len(set(states)) == len(FAMILIES)


def test_the_test_seed_is_refused_for_training():
    # Prevents a network that has seen its test holes.
    result = CliRunner().invoke(root, ["train", "--seed", str(TEST_SEED)])
    assert isinstance(result.exception, ConfigError)


def farm(*words):
    return CliRunner().invoke(root, [*map(str, words)])


def small_training(out, *words):
    return farm("train", "--holes", 64, "--test-holes", 1, "--out", out, *words)


def fail(error):
    def failing(*_args, **_kwargs):
        raise error

    return failing


@pytest.mark.parametrize("error", [KeyboardInterrupt(), FarmError("no space left")])
def test_a_run_whose_publishing_fails_is_taken_up_again(tmp_path, monkeypatch, error):
    # Prevents an hour of training that is lost in the minute after it.
    with monkeypatch.context() as broken:
        broken.setattr(publishing, "calibrate", fail(error))
        failed = small_training(tmp_path)
    assert failed.exit_code == 1
    assert ("--resume" in failed.output) == isinstance(error, KeyboardInterrupt)
    assert (tmp_path / CHECKPOINT).exists()
    monkeypatch.setattr(training, "_update", fail(AssertionError("trained again")))
    resumed = small_training(tmp_path, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert open_package(tmp_path).verify()
    assert not (tmp_path / CHECKPOINT).exists(), "what is published can't be resumed"


def test_stopped_before_the_first_step_is_told(tmp_path, monkeypatch):
    # Prevents advice to resume what isn't there.
    monkeypatch.setattr(training, "_first_network", fail(KeyboardInterrupt()))
    assert "give the same command again" in small_training(tmp_path).output


@pytest.mark.parametrize(
    ("held", "words"), [(CHECKPOINT, "--resume"), (MANIFEST, "holds a model"), (None, None)]
)
def test_what_is_in_the_folder_is_kept(tmp_path, monkeypatch, held, words):
    # Prevents a forgotten --resume, or --out, that replaces the work of hours.
    monkeypatch.setattr(training, "train", fail(ModelError("came to training")))
    if held:
        (tmp_path / held).write_text("{}")
        refused = small_training(tmp_path)
        assert isinstance(refused.exception, FarmError), refused.output
        for word in (words, "another --out", "--overwrite"):
            assert word in str(refused.exception)
        assert (tmp_path / held).exists()
    done = small_training(tmp_path, *(["--overwrite"] if held else []))
    assert "came to training" in str(done.exception)
    assert not (tmp_path / CHECKPOINT).exists()
    assert small_training(tmp_path, "--overwrite", "--resume").exit_code == 2


@pytest.mark.parametrize("command", [["train"], ["evaluate", "--holes", "1"]])
def test_a_folder_that_can_not_be_made_is_told_before_the_work(tmp_path, monkeypatch, command):
    # Prevents a traceback after an hour.
    monkeypatch.setattr(training, "train", fail(AssertionError("too late")))
    monkeypatch.setattr(evaluation, "judge", fail(AssertionError("too late")))
    (tmp_path / "file").write_text("")
    done = farm(*command, "--out", tmp_path / "file" / "deeper")
    assert isinstance(done.exception, FarmError)
    assert "can't make --out" in str(done.exception)


def test_plots_that_can_not_be_drawn_are_told_before_the_work(tmp_path, monkeypatch):
    # Prevents minutes of evaluation that end in a missing package.
    monkeypatch.setattr(evaluation, "judge", fail(AssertionError("too late")))
    monkeypatch.setattr(plotting.importlib.util, "find_spec", lambda _name: None)
    done = farm("evaluate", "--holes", 1, "--out", tmp_path)
    assert "needs matplotlib" in str(done.exception)


@pytest.mark.parametrize(
    ("start", "words"), [(0, "no built-in model 0"), (1, "of the kind rule"), (77, "none in ")]
)
def test_only_a_depth_network_can_be_begun_with(tmp_path, start, words):
    # Prevents --start 0 that begins anew without a word, and a rule opened for its weights.
    done = small_training(tmp_path / "new", "--models-dir", tmp_path, "--start", start)
    assert isinstance(done.exception, ModelError)
    assert words in str(done.exception)
    assert not (tmp_path / "new").exists()


def test_the_plans_defaults_are_the_commands():
    # Prevents `farm train` and `train()` from making different networks.
    options = {option.name: option.default for option in train_command.params}
    assert Plan(holes=64).data_share == options["data_share"]


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_recordings_are_read_as_the_site_configured(tmp_path, archive, command):
    # Prevents holes that workers can read and `farm train --data` can't, or reads otherwise.
    config = tmp_path / "farm.yaml"
    config.write_text("mqtt: {data_ids: {torque: Drilling.Nowhere}}\n")
    done = farm(command, "--data", archive, "-c", config)
    assert isinstance(done.exception, FarmError)
    assert "torque is missing" in str(done.exception)


def test_train_evaluate_and_load_by_number(tmp_path, archive):
    # Prevents commands that don't fit each other: what train writes, evaluate and workers read.
    out = tmp_path / "models" / "7"
    trained = CliRunner().invoke(
        root,
        ["train", "--holes", "128", "--out", str(out), "--test-holes", "1", "--data", str(archive),
         "--start", "4", "--name", "mine-1"],
    )  # fmt: skip
    assert trained.exit_code == 0, trained.output
    assert "mine-1" in trained.output
    told = open_package(out).manifest.training
    assert (told["recorded_holes"], told["start"]) == (6, "4")
    result = CliRunner().invoke(
        root,
        ["evaluate", "--models-dir", str(out.parent), "--model", "7", "--model", "1", "--json",
         "--holes", "2", "--data", str(archive), "--out", str(tmp_path / "report")],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    scores = json.loads(result.stdout)
    assert set(scores) == {"simulated", "recorded"}
    assert set(scores["recorded"]) == {"mine-1 (7)", "rule-2 (1)"}
    assert scores["recorded"]["mine-1 (7)"]["V6-V7"]["holes"] == 6
    pages = {path.name for path in (tmp_path / "report").iterdir()}
    assert pages == {
        "errors-simulated.png", "errors-recorded.png", "calibration.png", "realism.png",
        "worst-simulated.png", "worst-recorded.png",
    }  # fmt: skip
    assert all(path.stat().st_size > 10_000 for path in (tmp_path / "report").iterdir())


def test_evaluate_prints_a_table(monkeypatch):
    # Prevents a table without the baseline to compare with.
    monkeypatch.setenv("COLUMNS", "160")
    result = CliRunner().invoke(root, ["evaluate", "--holes", "1"])
    assert result.exit_code == 0, result.output
    for word in ("depthnet-2 (4)", "rule-2 (1)", "transition", "wide-3", "all"):
        assert word in result.output


def test_recorded_holes_alone_are_drawn_and_the_runtime_is_named(tmp_path, archive):
    # Prevents pages that need simulated holes, and two runtimes under one name.
    out = tmp_path / "report"
    done = farm("evaluate", "--holes", 0, "--data", archive, "--runtime", "int8", "--json",
                "--model", 4, "--model", LIBRARY / "1", "--out", out, "--worst", 0)  # fmt: skip
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout, parse_constant=pytest.fail)["recorded"]
    assert set(told) == {"depthnet-2 (4, int8)", f"rule-2 ({LIBRARY / '1'})"}
    assert {path.name for path in out.iterdir()} == {"errors-recorded.png", "calibration.png"}
    assert {"refused", "wrong", "bias_mm", "spread_mm"} < set(told["depthnet-2 (4, int8)"]["all"])


@pytest.mark.filterwarnings("error")
def test_the_calibration_page_draws_recorded_points_alone(archive):
    # Prevents an empty page where a site has only its own holes.
    holes = read_labelled(archive)
    page = calibration_page((), judge(Oracle(holes, 0.1, 0.2, 0.9), holes))
    coverage, sigma, quality = page.axes
    assert len(coverage.get_lines()) == 4, "three keypoints and the diagonal"
    assert sum(len(line.get_xdata()) for line in sigma.get_lines()[:3]) == 3 * 5
    assert sum(patch.get_height() for patch in quality.patches) >= 5
    calibration_page((), ()).canvas.draw()


def test_evaluating_nothing_is_a_usage_error():
    # Prevents an empty table that looks like an answer.
    assert CliRunner().invoke(root, ["evaluate", "--holes", "0"]).exit_code == 2
