"""The model that does nothing, or nothing but use CPU time."""

from __future__ import annotations

import time

import pytest

from farm.errors import ModelError
from farm.models.null import NullModel


def test_each_hole_takes_the_cpu_time_that_was_asked_for() -> None:
    # prevents: a ratio to the model alone in which the model cost something else
    model = NullModel({"cost_ms": 5})
    before_s = time.thread_time()
    assert len(model.infer([None] * 4)) == 4
    assert time.thread_time() - before_s >= 0.02


@pytest.mark.parametrize(
    "settings", [{"cost_ms": "5"}, {"cost_ms": -1}, {"cost_ms": True}, {"x": 1}]
)
def test_settings_that_are_none_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="cost_ms"):
        NullModel(settings)
