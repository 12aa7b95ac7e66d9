"""The gateway styles as DOMAIN describes them, and the cheap rewriting of recorded messages."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farm.drilling.hole import Hole, Step
from farm.errors import FarmError, ReadError
from farm.simulation.archive import read_archive, write_archive
from farm.simulation.drilled import SAMPLE_RECIPES, Recipe, drill, samples, series
from farm.simulation.gateway import STYLES, HoleMessages, messages
from farm.simulation.restamp import HoleTemplate, MessageTemplate, with_result_id

SAMPLES = Path(__file__).parents[2] / "samples"
SAMPLES_MAX_BYTES = 2_000_000
STEPS = "ResultManagement.Results.0.ResultContent.StepResults.0.StepResultValues"
META = "ResultManagement.Results.0.ResultMetaData"
TRACES = "ResultManagement.Results.0.ResultContent.Trace.StepTraces"


def small_hole(*, steps: int = 2) -> Hole:
    numbers = np.repeat(np.arange(1, steps + 1), 3).astype(np.int16)
    n = len(numbers)
    return Hole(
        position_mm=np.linspace(0.55, 4.0, n).astype(np.float32),
        torque_a=np.linspace(0.0, 5.0, n).astype(np.float32),
        thrust_a=np.zeros(n, np.float32),
        step_number=numbers,
        steps=tuple(Step(k, 64, 1.5, 4.75, 0.316) for k in range(1, steps + 1)),
    )


def written(style: str, *, steps: int = 2, **changes: Any) -> HoleMessages:
    hole = small_hole(steps=steps)
    settings: dict[str, Any] = {
        "power_w": np.full(len(hole), 106.4),
        "style": STYLES[style],
        "toolbox": "BOX",
        "tool": "T1",
        "result_id": 440,
        "head_id": "E004",
        "machine_id": "17070141",
        "timestamp": datetime(2025, 3, 3, 8, tzinfo=UTC),
    }
    return messages(hole, **(settings | changes))


def fields(raw: bytes) -> dict[str, Any]:
    """Values by path, without namespace and tool."""
    payload = json.loads(raw)["Messages"]["Payload"]
    return {key.split(".DeviceSet.T1.", 1)[1]: entry["Value"] for key, entry in payload.items()}


def space(raw: bytes) -> str:
    (found,) = {key.split(";")[0] for key in json.loads(raw)["Messages"]["Payload"]}
    return found.rsplit("/", 1)[1]


# style: suffix, ResultId, ResultEvaluation, SerialNumber, InternalRecipeId, namespace of the Trace
TABLE = {
    "2024-12": ("", 440, True, 17070141, 0, "AFastening"),
    "2025-03": ("", 440, "Ok", "17070141", 0, "ADrilling"),
    "2025-06": (".MeasuredValue", "440", "OK", "17070141", "0", "ADrilling"),
}


@pytest.mark.parametrize("style", TABLE)
def test_each_style_differs_as_the_domain_says(style):
    suffix, *expected, trace_space = TABLE[style]
    made = written(style)
    result, trace = fields(made.result), fields(made.trace)
    names = ("ResultId", "ResultEvaluation", "SerialNumber", "InternalRecipeId")
    found = [result[f"{META}.{name}"] for name in names]
    assert [(type(value), value) for value in found] == [(type(e), e) for e in expected]
    assert trace[f"{TRACES}.PositionTrace.StepResultId"] == result[f"{META}.ResultId"]
    assert result[f"{STEPS}.StopCode{suffix}"] == [64, 64]
    assert (space(made.result), space(made.trace)) == ("ADrilling", trace_space)


def test_the_oldest_style_has_neither_power_nor_heads():
    made = written("2024-12")
    assert made.heads is None
    assert f"{TRACES}.PowerTrace.StepTraceContent[0].Values" not in fields(made.trace)
    assert f"{TRACES}.PowerTrace.StepResultId" in fields(made.trace)
    assert fields(written("2025-03").trace)[f"{TRACES}.PowerTrace.StepTraceContent[0].Values"]


def test_a_bad_hole_is_evaluated_in_the_words_of_its_gateway():
    found = [fields(written(s, good=False).result)[f"{META}.ResultEvaluation"] for s in STYLES]
    assert found == [False, "NotOk", "NotOK"]


def test_heads_name_the_hole_and_the_head():
    heads = fields(written("2025-03").heads or b"")
    assert heads["AssetManagement.Assets.Heads.0.LifetimeCounters.0.LifeTimeCycleCounter"] == 440
    assert heads["AssetManagement.Assets.Heads.0.Identification.SerialNumber"] == "E004"


def test_a_hole_of_one_step_carries_scalars():
    result = fields(written("2025-03", steps=1).result)
    assert result[f"{STEPS}.StepNumber"] == 1
    assert result[f"{STEPS}.IntensityTorqueEmpty"] == 4.75


def test_traces_are_written_as_gateways_write_numbers():
    trace = fields(written("2025-03").trace)
    position = trace[f"{TRACES}.PositionTrace.StepTraceContent[0].Values"]
    torque = trace[f"{TRACES}.IntensityTorqueTrace.StepTraceContent[0].Values"]
    assert position[0] == -0.55  # negative going forward, three decimals
    assert position[-1] == -4
    assert type(torque[0]) is int  # whole numbers have no point, and never a minus zero
    assert type(torque[1]) is int
    assert type(torque[-1]) is int
    assert b"-0," not in written("2025-03").trace
    lengths = {len(v) for k, v in trace.items() if k.endswith(".Values")}
    assert lengths == {6}
    gap = fields(written("2025-06").trace)[f"{TRACES}.GapLengthTrace.StepTraceContent[0].Values"]
    assert gap == [None] * 6


def test_what_the_machine_did_not_report_is_null_never_nan():
    hole = small_hole()
    unknown = replace(hole.steps[0], torque_empty_a=float("nan"), stop_code=None)
    made = messages(
        replace(hole, steps=(unknown, hole.steps[1])),
        power_w=None,
        style=STYLES["2025-03"],
        toolbox="B",
        tool="T1",
        result_id=1,
        head_id="",
        machine_id="",
        timestamp=datetime(2025, 3, 3, tzinfo=UTC),
    )
    assert b"NaN" not in made.result
    assert fields(made.result)[f"{STEPS}.IntensityTorqueEmpty"] == [None, 4.75]
    assert fields(made.result)[f"{STEPS}.StopCode"] == [None, 64]


@pytest.mark.parametrize("style", STYLES)
def test_a_stamped_copy_differs_in_the_ids_alone(style):
    original = written(style)
    copies = HoleTemplate(original).bind(toolbox='B"2', tool="T.9").stamp("7001")
    for (tail, raw), (topic, copy) in zip(original.parts(), copies, strict=True):
        assert topic == f'OPCPUBSUB/B"2/T.9/{tail}'
        old, new = json.loads(raw), json.loads(copy)
        assert old["MessageId"] != new["MessageId"]
        assert new["PublisherId"] == 'B"2'
        expected = raw.replace(b"440", b"7001").replace(b".T1.", b".T.9.")
        expected = expected.replace(b'"BOX"', b'"B\\"2"').replace(b'"T1"', b'"T.9"')
        assert json.loads(expected)["Messages"] == new["Messages"]


def test_every_copy_has_a_message_id_of_its_own():
    hole = HoleTemplate(written("2025-03")).bind()
    first, second = (json.loads(hole.stamp("1")[0][1])["MessageId"] for _ in range(2))
    assert first != second


def test_a_head_that_counts_otherwise_is_left_alone():
    recorded = written("2025-03")
    assert recorded.heads is not None
    foreign = replace(recorded, heads=recorded.heads.replace(b":440,", b":9,"))
    stamped = with_result_id(foreign, 55)
    assert b":9," in (stamped.heads or b"")
    assert fields(stamped.result)[f"{META}.ResultId"] == 55


def test_a_value_behind_its_timestamp_and_spaces_are_found():
    pretty = json.dumps(json.loads(written("2025-06").result), indent=1, sort_keys=True).encode()
    assert MessageTemplate(pretty).result_id == "440"


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"PublisherId":"B"}'])
def test_what_is_no_message_is_refused_with_the_cause(raw):
    with pytest.raises(ReadError):
        HoleTemplate(HoleMessages(raw, raw, None))


def test_equal_seeds_give_equal_bytes_and_others_do_not():
    recipe = Recipe("V6-V7", "2025-06")
    assert drill(recipe, seed=3).messages == drill(recipe, seed=3).messages
    assert drill(recipe, seed=3).messages != drill(recipe, seed=4).messages


def test_an_archive_reads_back_as_written(tmp_path):
    made = list(series([Recipe("V6-V7", "2024-12"), Recipe("AL", "2025-03")], count=2, seed=1))
    names = write_archive(tmp_path, made)
    assert names == ["01-V6-V7-2024-12", "02-AL-2025-03"]
    assert [hole.messages for hole in read_archive(tmp_path)] == [hole.messages for hole in made]
    assert read_archive(tmp_path / names[1])[0].messages.heads is not None
    assert (tmp_path / "index.csv").read_text().startswith("hole,program,gateway_style,")


def test_an_empty_folder_and_a_broken_hole_are_told_apart(tmp_path):
    with pytest.raises(FarmError, match="no hole found"):
        read_archive(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "Trace.json").write_text("{}")
    with pytest.raises(FarmError, match=r"ResultManagement\.json: No such file"):
        read_archive(tmp_path)


def test_the_samples_cover_the_styles_and_stay_small():
    names = [hole.name for hole in read_archive(SAMPLES)]
    assert len(names) == len(SAMPLE_RECIPES)
    assert all(any(name.endswith(style) for name in names) for style in STYLES)
    size = sum(file.stat().st_size for file in SAMPLES.rglob("*") if file.is_file())
    assert size < SAMPLES_MAX_BYTES


def test_the_samples_are_what_their_seed_gives():
    # Otherwise index.csv is no longer the truth about them: `farm simulate samples --samples`.
    kept = {hole.name: hole.messages for hole in read_archive(SAMPLES)}
    for number, hole in enumerate(samples(), start=1):
        name = f"{number:02d}-{hole.recipe.label}"
        if "V6-V7" in name:  # the small ones
            assert kept[name] == hole.messages
