"""What a reload says of settings that it can't put in force."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from farm.config import Config
from farm.supervisor.pool import Pool
from farm.supervisor.reloading import Reloading


class PlayedFile:
    """Somebody has changed the device of the model."""

    def __init__(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        self.config = Config.model_validate({"model_settings": before})
        self._after = Config.model_validate({"model_settings": after})

    def renew(self) -> tuple[list[str], list[str]]:
        self.config = self._after
        return ["model_settings"], []


@pytest.mark.parametrize(
    ("before", "after", "gpus", "is_told"),
    [
        ({"device": "cuda"}, {"device": "cpu"}, ["gpu0"], True),
        ({}, {"device": "cpu"}, ["gpu0"], True),
        ({}, {"device": "cuda"}, [], True),
        ({}, {"device": "cpu"}, [], False),
        ({"device": "cuda"}, {"device": "cuda", "runtime": "eager"}, ["gpu0"], False),
    ],
)
def test_another_device_needs_a_restart_and_that_is_said(
    before: dict[str, Any], after: dict[str, Any], gpus: list[str], *, is_told: bool
) -> None:
    """GPUs that go on for days after an operator has taken them from the farm, without a word."""
    file: Any = PlayedFile(before, after)
    policy: Any = SimpleNamespace
    pool = Pool(["1"], policy, ready_timeout_s=60, fixed=gpus)
    with capture_logs() as told:
        assert Reloading(file, pool).begin()
    keys = [line["keys"] for line in told if line["event"] == "needs_restart"]
    assert keys == [["model_settings.device"]] * is_told
