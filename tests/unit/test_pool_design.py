"""The plain design beside the farm: it must do the same work, or comparing is worth nothing."""

from __future__ import annotations

import json
from concurrent.futures import Executor, Future

import numpy as np
import pytest

from farm.adapter import load_adapter
from farm.config import Config
from farm.errors import FarmError
from farm.simulation.drilled import SAMPLE_RECIPES, drill
from farm.simulation.gateway import HEADS, RESULT, TRACE
from farm.simulation.pool_design import _ID, _ID_PATHS, await_all, fields_of, hole_of, warm


@pytest.mark.parametrize("recipe", SAMPLE_RECIPES, ids=lambda recipe: recipe.label)
def test_a_hole_from_dicts_is_the_one_that_the_farm_reads(recipe):
    messages = drill(recipe, seed=3).messages
    expected = load_adapter(Config()).read({"result": messages.result, "trace": messages.trace})
    found = hole_of(fields_of(messages.result), fields_of(messages.trace))
    for name in ("position_mm", "torque_a", "thrust_a", "step_number"):
        mine, its = getattr(found, name), getattr(expected, name)
        assert mine.dtype == its.dtype
        np.testing.assert_array_equal(mine, its)
    assert found.sample_rate_hz == expected.sample_rate_hz
    assert [step.number for step in found.steps] == [step.number for step in expected.steps]
    np.testing.assert_equal(
        [step.duration_s for step in found.steps], [step.duration_s for step in expected.steps]
    )


class Unfair(Executor):
    """A pool of which the first worker takes all tasks until the others are up."""

    def __init__(self, pids):
        self._pids = iter(pids)

    def submit(self, function, /, *_args, **_kwargs):
        assert function is warm
        future = Future()
        future.set_result(next(self._pids))
        return future


def test_a_pool_is_ready_once_all_of_its_workers_are():
    # prevents: a pool that is measured while half of it still loads the model
    pids = [1, 1, 1, 1, 1, 2, 1, 3, 3, 99, 99, 99]
    pool = Unfair(pids)
    await_all(pool, 3)
    assert next(pool._pids) == 99
    with pytest.raises(FarmError, match="1 of 2 workers"):
        await_all(Unfair([1] * 4), 2, timeout_s=0.0)


@pytest.mark.parametrize("style", ["2024-12", "2025-03", "2025-06"])
def test_the_id_is_found_in_raw_bytes_and_in_dicts(style):
    recipe = next(each for each in SAMPLE_RECIPES if each.style == style)
    messages = drill(recipe, seed=3, number=17).messages
    for kind, raw in ((RESULT, messages.result), (TRACE, messages.trace), (HEADS, messages.heads)):
        if raw is None:
            continue
        found = _ID.search(raw)
        assert found is not None
        assert found.group(1) == b"117"
        assert str(fields_of(raw)[_ID_PATHS[kind]]["Value"]) == "117"
        assert json.loads(raw)
