"""The depth model: right on known holes, sure of itself only where it may be, and never NaN."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from farm.drilling.hole import Hole, Step
from farm.errors import ModelError
from farm.models.answer import COLUMNS, SIGMA, TIP, TORQUE
from farm.models.depthnet import BUILT_IN, DOUBTFUL, DepthModel
from farm.models.model import Insufficient, Model
from farm.models.package import WEIGHTS, open_package
from farm.models.rule import GradientRule
from farm.training.evaluate import ALL, judge, score, simulated_holes
from farm.training.programs import PROGRAMS
from farm.training.simulator import simulate, simulate_batch, unpack

pytestmark = pytest.mark.usefixtures("one_thread")

PER_FAMILY = 24


@pytest.fixture(scope="module")
def model():
    return DepthModel({"runtime": "frozen"})


@pytest.fixture(scope="module")
def known(model):
    holes = [h for h in simulated_holes(PER_FAMILY, seed=77, faults=0) if h.family in PROGRAMS]
    return holes, judge(model, holes)


def good_hole(name="V1-V5", seed=1):
    return simulate(name, np.random.default_rng(seed)).hole


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


def test_its_precision_is_what_the_card_says(known):
    # Prevents weights that were overwritten, or that no longer fit the grid or the simulator.
    overall = next(s for s in score("net", known[1]) if s.family == ALL)
    assert (overall.median_mm < (0.025, 0.025, 0.04, 0.05)).all(), overall.median_mm
    assert (overall.p95_mm < (0.1, 0.1, 0.15, 0.18)).all(), overall.p95_mm
    assert overall.refused == 0


def test_it_beats_the_rule_many_times_over(known):
    # Prevents a network that is worse than what needs no training.
    holes, verdicts = known
    net = next(s for s in score("net", verdicts) if s.family == ALL)
    rule = next(s for s in score("rule", judge(GradientRule({}), holes)) if s.family == ALL)
    assert (net.median_mm < 0.25 * rule.median_mm).all()
    assert (net.p95_mm < 0.25 * rule.p95_mm).all()


def test_its_sigmas_hold(known):
    # Prevents a sigma that is only decoration; the bounds are 4 sd of 500 keypoints.
    overall = next(s for s in score("net", known[1]) if s.family == ALL)
    assert 0.62 < overall.coverage[0] < 0.76
    assert 0.90 < overall.coverage[1] < 0.98


def test_larger_sigmas_mean_larger_errors(known):
    # Prevents a sigma that is the same for all.
    error = np.abs(np.array([v.error_mm[:3] for v in known[1]])).ravel()
    sigma = np.array([v.sigma_mm for v in known[1]]).ravel()
    both = np.isfinite(error) & np.isfinite(sigma)
    order = np.argsort(sigma[both])
    low, high = np.array_split(error[both][order], 2)
    assert np.quantile(high, 0.68) > 1.3 * np.quantile(low, 0.68)


def test_confidence_is_not_given_to_what_is_wrong(model):
    # Prevents a bad hole from being answered as surely as a good one.
    verdicts = judge(model, simulated_holes(60, seed=78, faults=3.0))
    overall = next(s for s in score("net", verdicts) if s.family == ALL)
    assert overall.wrong_with_confidence < 0.005


def test_a_hole_through_one_material_has_two_keypoints(model):
    # Prevents a transition that is not there.
    rng = np.random.default_rng(5)
    batch = simulate_batch([list(PROGRAMS).index("AL")] * 30, rng, faults=0)
    answers = model.infer([h.hole for h in unpack(batch, rng)])
    lengths = [len(a["keypoints_mm"]) for a in answers]
    assert lengths.count(2) >= 27
    for answer in answers:
        assert len(answer["sigma_mm"]) == len(answer["tip_mm"]) == len(answer["keypoints_mm"])


def test_the_answer_is_fit_for_the_wire(model):
    # Prevents NumPy numbers, which msgpack refuses, in an answer.
    answer = model.infer([good_hole()])[0]
    for key in ("keypoints_mm", "sigma_mm", "tip_mm"):
        assert [type(x) for x in answer[key]] == [float] * 3
    assert type(answer["quality"]) is float
    assert 0 <= answer["quality"] <= 1


def cut(hole, keep, *, code=None):
    """The hole, recorded up to a sample; its last step ends with that stop code."""
    last = int(hole.step_number[keep - 1])
    steps = tuple(s for s in hole.steps if s.number <= last)
    if code is not None:
        steps = (*steps[:-1], replace(steps[-1], stop_code=code))
    columns = ("position_mm", "torque_a", "thrust_a", "step_number")
    return replace(hole, steps=steps, **{name: getattr(hole, name)[:keep] for name in columns})


def test_an_abort_is_told_though_the_samples_lost_their_step_numbers(model):
    # Prevents the reason of another step: the machine's report still has the last one.
    simulated = simulate("V1-V5", np.random.default_rng(3))
    hole = cut(simulated.hole, inside_metal(simulated), code=1024 | 64)
    answer = model.infer([replace(hole, step_number=np.full(len(hole), 2, np.int16))])[0]
    assert answer.reason.startswith("Aborted: step 3 was stopped by an abort")


def inside_metal(simulated):
    """How many samples there are up to 1.2 mm past the transition, in the metal's step."""
    deep = simulated.hole.position_mm > simulated.keypoints_mm[1] + 1.2
    return int(np.argmax(deep & (simulated.hole.step_number == 3)))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1024, "Aborted: step 3 was stopped by an abort"),
        (128, "stop button"),
        (512, "tool broke"),
        (64, "the recording ends before the drill is through (step 3 ended on stroke)"),
        (None, "No exit found"),
    ],
)  # fmt: skip
def test_a_hole_that_is_not_through_says_why(model, code, words):
    # Prevents depths of a hole that was aborted, the worst thing to say.
    simulated = simulate("V1-V5", np.random.default_rng(3))
    answer = model.infer([cut(simulated.hole, inside_metal(simulated), code=code)])[0]
    assert isinstance(answer, Insufficient)
    assert words in answer.reason


def test_drilling_air_is_told_from_drilling_on(model):
    # Prevents depths of a hole that isn't there.
    rng = np.random.default_rng(8)
    air = rng.normal(0, 0.02, 1500)
    hole = made(np.linspace(0.7, 25, 1500), air)
    answer = model.infer([hole])[0]
    assert answer == Insufficient("Air drilling: the drill met no material")


def test_a_batch_answers_as_single_holes_do(model, known):
    # Prevents answers that depend on which other holes a worker happened to hold.
    mixed = [hole.hole for hole in known[0][::6]]
    for together, one in zip(model.infer(mixed), mixed, strict=True):
        alone = model.infer([one])[0]
        for key in ("keypoints_mm", "sigma_mm", "tip_mm"):
            np.testing.assert_allclose(together[key], alone[key], atol=1e-3)


def test_refusals_keep_their_place_in_a_batch(model):
    # Prevents an answer from going to its neighbour's hole.
    single = simulate("HAM", np.random.default_rng(0), single_step=True).hole
    good = good_hole()
    answers = model.infer([single, good, made(np.arange(17.0))])
    assert answers[0] == Insufficient("Not enough steps to estimate depth")
    assert answers[1]["keypoints_mm"] == pytest.approx(
        model.infer([good])[0]["keypoints_mm"], abs=1e-3
    )
    assert answers[2].reason.startswith("Too few samples to estimate depth")
    assert model.infer([]) == []


def test_lost_step_numbers_are_no_single_step(model):
    # Prevents a good hole from being refused for what a gateway forgot.
    hole = good_hole()
    lost = replace(hole, step_number=np.ones_like(hole.step_number))
    assert model.infer([lost])[0]["keypoints_mm"] == pytest.approx(
        model.infer([hole])[0]["keypoints_mm"], abs=0.3
    )


def test_stop_codes_and_no_load_values_change_no_depth(model):
    # Prevents an answer that depends on what a gateway may leave out or get wrong.
    hole = good_hole()
    odd = tuple(Step(s.number, None, float("nan"), float("nan"), 99.0) for s in hole.steps)
    assert model.infer([replace(hole, steps=odd)]) == model.infer([hole])


class Sure:
    """A runtime that is sure of one and the same answer, whatever it sees."""

    def __init__(self, keypoints_mm):
        self.keypoints_mm = np.array(keypoints_mm)

    def __call__(self, grids):
        row = np.ones(COLUMNS, np.float32)
        columns = np.tile(row, (len(grids.origin_mm), 1))
        columns[:, TORQUE] = columns[:, TIP] = self.keypoints_mm - grids.origin_mm[:, None]
        columns[:, SIGMA] = 0.05
        return columns


BLOCK = np.linspace(1, 30, 2900)  # position_mm of a hole at 0.01 mm a sample


def block(entry_mm=6.0, exit_mm=18.0, level_a=9.0, **changes):
    """A plain hole: torque between two positions."""
    torque = level_a * ((entry_mm < BLOCK) & (exit_mm > BLOCK))
    return replace(made(BLOCK, torque), **changes)


STUCK = np.where(BLOCK < 12, block().torque_a, 9.0).astype(np.float32)


@pytest.mark.parametrize(
    ("hole", "keypoints_mm", "is_sure"),
    [
        (block(), [6, 10, 18], True),
        (block(exit_mm=29), [6, 10, 29], True),
        (block(exit_mm=28.9), [2, 10, 28.9], False),
        (block(), [6, 10, 12], False),
        (block(), [10, 14, 18], False),
        (block(level_a=0.0), [6, 10, 18], False),
        (block(torque_a=STUCK), [6, 10, 18], False),
        (block(sample_rate_hz=1000.0), [6, 10, 18], False),
        (block(sample_rate_hz=50.0), [6, 10, 18], True),
    ],
    ids=["plain", "recorded just to the exit", "too thick", "no fall there", "no rise there",
         "dead torque", "stuck torque", "odd rate", "half rate"],
)  # fmt: skip
def test_what_the_torque_does_not_bear_out_is_doubtful(model, hole, keypoints_mm, is_sure):
    # Prevents confidence in an answer to something the network was never shown.
    runtime, model._runtime = model._runtime, Sure(keypoints_mm)
    try:
        quality = model.infer([hole])[0]["quality"]
    finally:
        model._runtime = runtime
    assert quality == (1.0 if is_sure else DOUBTFUL)


def test_uncertain_answers_can_be_refused(known):
    # Prevents a setting without effect, and one that refuses everything.
    holes = [h.hole for h in known[0][:20]]
    strict = DepthModel({"min_quality": 1.0, "runtime": "frozen"}).infer(holes)
    lenient = DepthModel({"min_quality": 0.0, "runtime": "frozen"}).infer(holes)
    assert any(isinstance(a, Insufficient) and "too uncertain" in a.reason for a in strict)
    assert not any(isinstance(a, Insufficient) for a in lenient)


ODD = {
    "zeros": made(np.zeros(500)),
    "constant": made(np.full(500, 7.0), np.full(500, 3.0)),
    "reversed": made(np.linspace(30, 1, 1000), np.linspace(0, 9, 1000)),
    "shortest": made(np.linspace(1, 3, 18), np.linspace(0, 9, 18)),
    "longest": made(np.linspace(1, 36, 20_000), np.linspace(0, 9, 20_000)),
    "deep": made(np.linspace(1, 400, 3000), np.linspace(0, 9, 3000)),
    "jump": made([1.0] * 20 + [300.0] * 20),
    "huge": made(np.linspace(0, 3e38, 100), np.linspace(-3e38, 3e38, 100)),
    "huge torque": made(np.linspace(0, 30, 100), np.linspace(-3e38, 3e38, 100)),
    "negative torque": made(np.linspace(1, 20, 900), np.linspace(0, -9, 900)),
    "very far away": made(np.full(500, 1e30)),
    "every sample a step": made(np.linspace(1, 20, 900), steps=np.arange(900)),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_traces_give_a_reason_or_ordered_finite_answers(model, name):
    # Prevents NaN in an answer, and keypoints outside of the hole.
    hole = ODD[name]
    answer = model.infer([hole])[0]
    if isinstance(answer, Insufficient):
        assert answer.reason
        return
    found = answer["keypoints_mm"]
    assert np.isfinite([*found, *answer["sigma_mm"], answer["quality"]]).all()
    assert found == sorted(found), "no negative depth"
    assert hole.position_mm.astype(float).min() - 0.1 <= found[0]
    assert found[-1] <= hole.position_mm.astype(float).max() + 0.1


def test_an_odd_hole_does_not_disturb_its_batch(model):
    # Prevents one garbage trace from spoiling the answers of a whole batch.
    good = good_hole()
    together = model.infer([*ODD.values(), good])[-1]["keypoints_mm"]
    assert together == pytest.approx(model.infer([good])[0]["keypoints_mm"], abs=1e-3)


def test_the_version_and_the_hash_are_of_the_weights(model):
    # Prevents answers that can't be traced to what made them.
    package = open_package(BUILT_IN)
    assert isinstance(model, Model)
    assert model.version == package.manifest.name == "depthnet-2"
    assert model.content_hash == package.manifest.sha256[WEIGHTS][:16]
    model.warm_up()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weight": "x"}, "'weight' is unknown"),
        ({"weights": "/nowhere"}, "can't read"),
        ({"runtime": "fast"}, "runtime 'fast' is unknown"),
        ({"device": "tpu"}, "device 'tpu' is unknown"),
        ({"runtime": "int8", "device": "cuda"}, "int8 runs on the CPU"),
        ({"min_quality": 2}, "min_quality"),
        ({"min_quality": True}, "min_quality"),
        ({"min_quality": "high"}, "min_quality"),
    ],
)
def test_settings_that_can_not_be_are_named(settings, words):
    # Prevents a misspelt setting from silently using the built-in weights.
    with pytest.raises(ModelError, match=words):
        DepthModel(settings)
