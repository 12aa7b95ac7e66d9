"""What is drawn of a hole, and what a viewer of somebody else's may do."""

from __future__ import annotations

import itertools
from types import MappingProxyType

import numpy as np
import pages
import pytest

from farm.adapter import load_adapter
from farm.config import Config
from farm.drilling.hole import Hole, Step
from farm.drilling.viewer import MAX_BINS, HoleViewer
from farm.errors import ReadError
from farm.viewer import (
    MAX_FIELDS,
    MAX_SAMPLES,
    Column,
    GuardedViewer,
    Picture,
    PlainViewer,
    Series,
    View,
    fields_of,
    viewer_of,
)


class OneHole:
    """A reader that has read this."""

    def __init__(self, hole):
        self.hole = hole

    def read_hole(self, _):
        return self.hole


def made_hole(position, torque, step=None):
    position = np.array(position, dtype=np.float32)
    step = np.ones(len(position)) if step is None else step
    torque = np.array(torque, dtype=np.float32)
    steps = (Step(1, 64, 1.5, 0.1, 0.2), Step(2, 1, float("nan"), 0.1, 0.2))
    return Hole(position, torque, torque / 2, np.array(step, dtype=np.int16), steps)


def test_figures_are_those_of_the_answer():
    viewer = HoleViewer(OneHole(None))
    assert viewer.figures(pages.VALUE) == {
        "depth": 15.25, "composite": 6.0, "metal": 9.25, "quality": 0.875,
    }  # fmt: skip
    assert viewer.figures({"keypoints_mm": [2.0, 5.5]}) == {"depth": 3.5}
    for value in (None, "text", [1], {}, {"keypoints_mm": []}):
        assert viewer.figures(value) == {}


def test_where_the_drill_goes_back_the_axis_waits():
    # prevents: an axis that falls, which no chart can draw, and samples that are left out
    hole = made_hole([0, 1, 2, 1, 0, 3], [0, 1, 5, 4, 0, 6], [1, 1, 1, 2, 2, 2])
    picture = HoleViewer(OneHole(hole)).picture({}, {"keypoints_mm": [1.0, 2.5]})
    by_position, by_time = picture.views
    assert by_position.at == [0, 1, 2, 2, 2, 3]
    assert by_time.at == pytest.approx([0, 0.01, 0.02, 0.03, 0.04, 0.05])
    assert picture.series[0].values == [0, 1, 5, 4, 0, 6]
    assert [(s.name, s.note) for s in by_position.steps] == [
        ("step 1", "stroke reached"), ("step 2", "torque maximum"),
    ]  # fmt: skip
    [layer] = by_position.layers
    assert (layer.name, layer.low, layer.high) == ("single layer", 1.0, 2.5)


def test_marks_have_their_spread_on_either_axis():
    hole = made_hole(np.linspace(0, 10, 101), np.ones(101))
    value = {"keypoints_mm": [2.0, 5.0, 8.0], "sigma_mm": [0.5, 0.25, 1.0]}
    by_position, by_time = HoleViewer(OneHole(hole)).picture({}, value).views
    assert [(m.name, m.low, m.at, m.high) for m in by_position.marks] == [
        ("entry", 1.5, 2.0, 2.5), ("transition", 4.75, 5.0, 5.25), ("exit", 7.0, 8.0, 9.0),
    ]  # fmt: skip
    # 0.1 mm a sample, at 100 Hz
    assert [m.at for m in by_time.marks] == pytest.approx([0.2, 0.5, 0.8], abs=0.011)
    assert by_position.marks[0].label == "entry 2.00 ± 0.50 mm"
    without = HoleViewer(OneHole(hole)).picture({}, {"keypoints_mm": [2.0, 5.0, 8.0]})
    assert {m.low for m in without.views[0].marks} == {None}


def test_a_hole_without_an_answer_is_drawn_without_marks():
    hole = made_hole([0, 1, 2], [0, 0, 0])
    for value in (None, {"other": 1}):
        picture = HoleViewer(OneHole(hole)).picture({}, value)
        assert [len(view.marks) + len(view.layers) for view in picture.views] == [0, 0]


def test_a_long_trace_keeps_its_extremes():
    # prevents: a peak that the picture does not show, and a picture of megabytes
    count = 40 * MAX_BINS
    torque = np.zeros(count)
    torque[[7, 12_345, count - 3]] = 9.0
    torque[20_001] = -4.0
    picture = HoleViewer(OneHole(made_hole(np.linspace(0, 30, count), torque))).picture({}, None)
    values = list(picture.series[0].values)
    assert len(values) <= MAX_SAMPLES
    assert (values.count(9.0), values.count(-4.0)) == (3, 1)
    at = picture.views[0].at
    assert (at[0], at[-1]) == (0.0, 30.0)
    assert all(a <= b for a, b in itertools.pairwise(at))


def test_the_level_is_that_of_cutting():
    # prevents: a level that falls because the drill went back, or ran free, inside the layer
    position = [0, 1, 2, 3, 2, 1, 2, 3, 4, 5, 6, 7]
    torque = [0, 2, 2, 2, 0, 0, 0, 0, 2, 8, 8, 8]
    viewer = HoleViewer(OneHole(made_hole(position, torque)))
    parts = {"result": b"", "trace": b""}
    assert viewer.measure(parts, {"keypoints_mm": [1.0, 4.5, 7.0]}) == {
        "torque_composite": 2.0, "torque_metal": 8.0,
    }  # fmt: skip
    assert viewer.measure(parts, {"keypoints_mm": [5.0, 7.0]}) == {"torque_single": 8.0}
    assert viewer.measure(parts, {"keypoints_mm": [50.0, 70.0]}) == {}
    assert viewer.measure(parts, None) == {}


def test_a_simulated_hole_is_drawn_through_the_adapter():
    viewer = viewer_of(load_adapter(Config()))
    picture = viewer.picture(pages.simulated(), pages.VALUE)
    assert len(picture.views[0].at) == len(picture.series[1].values) > 100
    assert dict(picture.fields)["entry"].startswith("6.00 ± 0.02 mm")
    with pytest.raises(ReadError):
        viewer.picture({"result": b"{"}, pages.VALUE)


class Odd:
    """A viewer of somebody else's, with this to give."""

    columns = (Column("a", "A"),)
    levels = (Column("b", "B"),)

    def __init__(self, given):
        self.given = given

    def figures(self, *_):
        return self._give()

    def picture(self, *_):
        return self._give()

    def measure(self, *_):
        return self._give()

    def _give(self):
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


def long_picture(places, values):
    return Picture(
        views=[View("at", "mm", [0.0] * places)], series=[Series("s", "A", [0.0] * values)]
    )


@pytest.mark.parametrize(
    "given",
    [
        ZeroDivisionError("1/0"), None, 7, {"a": "text", "b": "text"}, long_picture(3, 2),
        long_picture(MAX_SAMPLES + 1, MAX_SAMPLES + 1),
    ],
)  # fmt: skip
def test_an_odd_viewer_costs_the_picture_and_no_more(given):
    # prevents: a page that ends, or a list without rows, by a fault in somebody's viewer
    viewer = GuardedViewer(Odd(given))
    assert viewer.figures({"x": 1}) == {}
    assert viewer.measure({}, None) == {}
    with pytest.raises(ReadError, match="viewer of this traffic failed"):
        viewer.picture({}, None)


def test_a_viewer_gives_what_it_named_and_nothing_else():
    viewer = GuardedViewer(Odd({"a": 1, "b": 2, "c": 3}))
    assert viewer.figures({"x": 1}) == {"a": 1.0}
    assert viewer.measure({}, None) == {"b": 2.0}
    assert viewer.figures(None) == {}  # it is not asked where there is no answer


class Without:
    needs = MappingProxyType({})


class Broken(Without):
    def viewer(self):
        raise RuntimeError


@pytest.mark.parametrize("adapter", [Without(), Broken()])
def test_traffic_without_a_viewer_has_its_answer_as_a_table(adapter):
    viewer = viewer_of(adapter)
    assert (viewer.columns, viewer.levels, viewer.figures(3)) == ((), (), {})
    picture = viewer.picture({}, {"verdict": "good", "n": [1, 2]})
    assert picture.fields == [("verdict", "good"), ("n", "[1, 2]")]
    assert PlainViewer().measure({}, 1) == {}


def test_the_table_is_bounded():
    assert fields_of("good") == [("value", "good")]
    assert len(fields_of({i: i for i in range(1000)})) == MAX_FIELDS
    assert len(fields_of("x" * 10_000)[0][1]) < 1000
