"""When a recorder that listens ends, and what it still waits for. Without MQTT."""

from __future__ import annotations

import time

import orjson
import pytest
from recordings import SOURCE, answer, hole, traffic

from farm.recording import watch
from farm.recording.reader import RecordingReader
from farm.recording.record import Gap
from farm.recording.recorder import Recorder
from farm.recording.selection import Selection
from farm.recording.watch import Limits, record_mqtt
from farm.recording.writer import RecordingWriter

ESTIMATE = "ResultManagement.Results.0.ResultContent.DepthEstimation"
PATHS = (f"{ESTIMATE}.KeyPoints", f"{ESTIMATE}.DepthEstimation")


class Heard:
    """A subscription that has heard it all before: a list for each poll, then nothing."""

    waited_s = 0.0

    def __init__(self, *polls):
        self.polls = list(polls)

    def poll(self, _timeout_s):
        return self.polls.pop(0) if self.polls else []


def halves(result_id=440, *, at_s=101.0, source=SOURCE):
    body = orjson.dumps({"ResultId": str(result_id), "Value": [1.0, 2.0]})
    return [answer(path, body, at_s=at_s, source=source) for path in PATHS]


def record(path, polls, *, stops=lambda: 0, **limits):
    subscription = Heard(*polls)
    with RecordingWriter(path, now_ns=0) as writer:
        recorder = Recorder(writer, traffic(), Selection())
        why = record_mqtt(
            recorder, subscription, Limits(**limits),
            stops=stops,
            on_progress=lambda: None, waits_for_answers=True,
        )  # fmt: skip
    with RecordingReader(path) as reader:
        return why, list(reader.records())


def test_both_halves_of_the_last_answer_are_waited_for(tmp_path, monkeypatch):
    """Prevents a recording whose last hole differs from itself: it has the keypoints alone."""
    monkeypatch.setattr(watch, "LINGER_S", 0.0)
    keypoints, depths = halves()
    polls = [[*hole(440), keypoints], *[[]] * 20, [depths]]
    _, found = record(tmp_path / "r", polls, holes=1)
    assert found == [*hole(440), keypoints, depths]


def test_an_answer_that_comes_after_the_chosen_time_belongs_to_its_hole(tmp_path):
    """Prevents 15 s of waiting for answers that are then thrown away."""
    until_ns = time.time_ns() + 200_000_000
    at_s = until_ns / 1e9
    late = halves(440, at_s=at_s + 5)
    stranger = halves(441, at_s=at_s + 5)
    other = hole(441, at_s=at_s + 1)
    gap = Gap(until_ns, until_ns + 1, "lost")

    subscription = Heard(hole(440), [late[0]])  # which may be heard before the end is noticed
    with RecordingWriter(tmp_path / "r", now_ns=0) as writer:
        recorder = Recorder(writer, traffic(), Selection((), 0, until_ns))
        record_mqtt(
            recorder, subscription, Limits(until_ns=until_ns),
            stops=lambda: 0, on_progress=lambda: None, waits_for_answers=True,
            on_waiting=lambda: subscription.polls.append([*other, gap, *stranger, late[1]]),
        )  # fmt: skip
        assert not recorder.unanswered
    with RecordingReader(tmp_path / "r") as reader:
        assert list(reader.records()) == [*hole(440), late[0], gap, late[1]]


@pytest.mark.parametrize(("stops", "waits"), [(1, True), (2, False)])
def test_the_first_stop_waits_for_answers_and_the_second_for_nothing(tmp_path, stops, waits):
    """Prevents a recording ended by Ctrl-C that a farm then answers more of than is in it."""
    said = halves()
    counts = iter([0, *[stops] * 1000])
    why, found = record(tmp_path / "r", [hole(440), said], stops=counts.__next__)
    assert why == "stopped"
    assert found == [*hole(440), *(said if waits else [])]
