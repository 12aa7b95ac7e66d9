"""The commands around recordings, as far as they need no MQTT."""

from __future__ import annotations

import json
import re
import shlex
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from recordings import S, answer, hole, write

from farm.cli import root
from farm.recording.reader import RecordingReader
from farm.recording.record import Gap, Note

ESTIMATE = "ResultManagement.Results.0.ResultContent.DepthEstimation"


def run(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(root, list(map(str, words)))
    told = done.output + (str(done.exception) if done.exception else "")
    assert done.exit_code == code or (code == 1 and done.exception), told
    return told


def commands_of_the_page() -> list[str]:
    """What docs/recordings.md says that one can type."""
    page = (Path(__file__).parents[2] / "docs" / "recordings.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("farm ")]


@pytest.mark.parametrize("line", commands_of_the_page())
def test_the_commands_of_the_page_can_be_typed(line, tmp_path, monkeypatch):
    """Prevents a page with options that no command knows."""
    monkeypatch.chdir(tmp_path)
    for name in ("monday.farmrec", "tuesday.farmrec", "monday.jsonl", "FILE"):
        (tmp_path / name).touch()
    _, name, *words = shlex.split(line, comments=True)
    command = root.get_command(click.Context(root), name)
    if isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    with command.make_context(name, words) as context:
        assert context.params


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "r.farmrec"
    body = json.dumps({"ResultId": "1", "Value": [1.0, 2.0, 4.0]}).encode()
    depths = json.dumps({"ResultId": "1", "Value": [1.0, 2.0]}).encode()
    write(
        path,
        [
            Note(1 * S, "begun"), *hole(1, at_s=100, source="B/U1"),
            *hole(1, at_s=200, source="B/U2"), Gap(210 * S, 220 * S, "lost"),
            answer(f"{ESTIMATE}.KeyPoints", body, source="B/U1"),
            answer(f"{ESTIMATE}.DepthEstimation", depths, source="B/U1"),
        ],
    )  # fmt: skip
    return path


def test_info_shows_what_is_inside(recording):
    """Prevents a file that one must replay to know what is in it."""
    told = run("recording", "info", recording)
    assert "6: 2 result, 2 trace, 2 heads" in told
    assert "B/U2" in told
    data = json.loads(run("recording", "info", recording, "--json"))
    assert (data["messages"], data["answers"], data["holes"], data["gap_count"]) == (6, 2, 2, 1)


def test_info_of_a_damaged_recording_fails(recording):
    """Prevents a script that goes on with half a recording."""
    recording.write_bytes(recording.read_bytes() + b"x" * 100)
    assert "damaged at byte" in run("recording", "info", recording, code=1)
    assert "damaged at byte" in run("replay", recording, "--dry-run", code=1)


def test_a_recording_is_filtered_into_another(recording, tmp_path):
    """Prevents a filter that can't be used afterwards."""
    new = tmp_path / "new"
    told = run("record", new, "--from", recording, "--tool", "U2", "--results")
    assert "3 messages of 1 tools, 1 holes, 1 gaps" in told
    assert "1 holes have no whole answer in it" in told
    with RecordingReader(new) as reader:
        topics = {each.topic.split("/")[2] for each in reader.records() if hasattr(each, "topic")}
    assert topics == {"U2"}
    assert "going on with" in run("record", new, "--from", recording, "--holes", 1)
    assert "into itself" in run("record", recording, "--from", recording, code=2)


def test_an_anonymous_copy_pairs_and_says_so(recording, tmp_path):
    """Prevents an anonymous recording without the holes, or with the names."""
    new, key = tmp_path / "new", tmp_path / "key"
    run("record", new, "--from", recording, "--anonymise", "--key-file", key, "--results")
    data = json.loads(run("recording", "info", new, "--json"))
    assert (data["messages"], data["answers"], data["holes"]) == (6, 2, 2)
    assert data["anonymous"]
    assert not {"B/U1", "B/U2"} & data["tools"].keys()
    assert "is anonymous" in run("record", new, "--from", recording, code=1)
    assert "add --anonymise" in run("record", tmp_path / "third", "--from", new, code=1)


def test_shifted_times_are_given_away_by_none_that_is_not(recording, tmp_path):
    """Prevents a header or a note whose time says by how much all the others were moved."""
    new, now_ns = tmp_path / "new", time.time_ns()
    write(recording, hole(3, at_s=now_ns / 1e9, source="B/U3"))
    run("record", new, "--from", recording, "--anonymise", "--shift-times", "--results")
    with RecordingReader(new) as reader:
        times = [reader.header.created_ns]
        times += [each.at_ns for each in reader.records()]
    year_ns = 365 * 86_400 * S
    assert len(times) > 10
    assert max(times) < now_ns - 0.9 * year_ns
    assert "(not told)" in run("recording", "info", new)


def test_a_recording_with_answers_gives_results(recording, tmp_path):
    """Prevents a recording with answers that can't be kept beside the code."""
    results = tmp_path / "r.jsonl"
    assert "1 answers" in run("recording", "results", recording, results)
    assert json.loads(results.read_text().splitlines()[1])["depths_mm"] == [1.0, 2.0]


def test_a_dry_run_says_what_would_be_sent(recording):
    """Prevents faults that are found out only by breaking a farm."""
    told = run("replay", recording, "--dry-run", "--speed", "10")
    assert "would publish 6 messages and 0 copies in 10.0 s" in told
    told = run("replay", recording, "--dry-run", "--faults", "drop=1", "--json")
    assert json.loads(told)["replay"]["dropped"] == 6
    told = run("replay", recording, "--dry-run", "--tool", "U1", "--speed", "max", "--json")
    assert json.loads(told)["replay"]["messages"] == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("replay", "FILE", "--rate", "3"), "--rate is for folders"),
        (("replay", "DIR", "--speed", "3"), "--speed is for recordings"),
        (("replay", "FILE", "--speed", "0"), "no speed"),
        (("replay", "FILE", "--speed", "fast"), "no speed"),
        (("replay", "FILE", "--faults", "oops"), "no fault"),
        (("record", "FILE", "--since", "soon"), "no moment"),
        (("record", "FILE", "--for", "soon"), "no duration"),
        (("record", "FILE", "--since", "1h", "--until", "2h"), "lies before"),
        (("record", "NEW", "--shift-times"), "need --anonymise"),
        (("record", "NEW", "--from", "FILE", "--for", "1s"), "--for is for MQTT"),
    ],
)
def test_wrong_use_is_told(recording, tmp_path, words, told):
    """Prevents an option that does nothing, and a slip that means something else."""
    places = {"FILE": recording, "DIR": tmp_path, "NEW": tmp_path / "new"}
    assert told in run(*(places.get(word, word) for word in words), code=2)


def test_other_traffic_can_be_recorded_and_not_rewritten(recording, tmp_path):
    """Prevents an anonymous recording of messages that nobody here can read."""
    settings = tmp_path / "farm.yaml"
    settings.write_text("traffic: {adapter: odd_adapter:None}\n")
    told = run("record", tmp_path / "n", "--from", recording, "-c", settings, "--anonymise", code=1)
    assert "odd_adapter" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--from", "nothing.farmrec"), "can't be read"),
        (("--from", "journal", "--state-dir", "nowhere"), ""),
        (("--from", "RECORDING", "--for", "1s"), "--for is for MQTT"),
        (("--from", "ANONYMOUS"), "add --anonymise"),
        (("--from", "RECORDING", "--tool", "U9"), "new was removed again"),
    ],
)
def test_a_slip_leaves_no_file_behind(recording, tmp_path, words, told):
    """Prevents an error whose cure is the next error: the empty file is not anonymous."""
    anonymous, new = tmp_path / "anonymous", tmp_path / "new"
    run("record", anonymous, "--from", recording, "--anonymise")
    paths = {"RECORDING": recording, "ANONYMOUS": anonymous, "nowhere": tmp_path / "nowhere"}
    done = CliRunner().invoke(
        root, ["record", str(new), *(str(paths.get(word, word)) for word in words)]
    )
    assert done.exit_code
    assert told in done.output + str(done.exception)
    assert not new.exists()


def test_a_copy_of_a_damaged_recording_says_so_in_itself(recording, tmp_path):
    """Prevents half a recording whose copy says that all is kept."""
    whole = recording.read_bytes()
    recording.write_bytes(whole + b"x" * 100)
    new = tmp_path / "new"
    told = run("record", new, "--from", recording, code=1)
    assert "the source is damaged: 6 messages" in told
    with RecordingReader(new) as reader:
        notes = [each.text for each in reader.records() if isinstance(each, Note)]
    assert notes[0] == "begun: another recording"
    assert "begun" in notes  # the source's own
    assert f"its source: damaged at byte {len(whole)}" in notes[-2]
    assert notes[-1] == "ended: the source is damaged"


def test_what_a_copy_leaves_out_stands_in_it(recording, tmp_path):
    """Prevents an anonymous recording of which nobody knows any more what it lacks."""
    new = tmp_path / "new"
    write(recording, [Note(1 * S, "begun by J. Doe"), hole(9)[0]._replace(payload=b"{")])
    told = run("record", new, "--from", recording, "--anonymise")
    assert "left out: 1 x it is no JSON" in told
    with RecordingReader(new) as reader:
        notes = [each.text for each in reader.records() if isinstance(each, Note)]
    assert "left out: 1 x it is no JSON" in notes
    assert not [each for each in notes if "Doe" in each]


@pytest.mark.parametrize("content", [None, b"notes\n", b'{"format": "other"}\n'])
def test_results_never_replace_another_file(recording, tmp_path, content):
    """Prevents a night's recording that its own results are written over."""
    place = recording if content is None else tmp_path / "place"
    if content is not None:
        place.write_bytes(content)
    before = place.read_bytes()
    told = run("recording", "results", recording, place, code=1)
    assert "is no file of results: it is left as it is" in told
    told = run("replay", recording, "--save-results", place, "--port", 1, code=1)
    assert "is no file of results" in told  # and nothing was published before
    assert place.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted({recording.name, place.name})


def test_results_replace_older_ones(recording, tmp_path):
    """Prevents a script that runs once and never again."""
    results = tmp_path / "r.jsonl"
    for _ in range(2):
        assert "1 answers" in run("recording", "results", recording, results)


def test_a_choice_of_nothing_is_no_test_that_passes(recording):
    """Prevents a mistyped tool whose replay is always as expected."""
    for words in (("--tool", "U3"), ("--until", "1970-01-01T00:01Z")):
        for how in (("--expect", recording), ("--dry-run",), ()):
            told = run("replay", recording, *words, *how, "--port", 1, code=1)
            assert "would be published: do --tool, --since and --until leave something?" in told


@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_a_tolerance_that_lets_everything_pass_is_refused(recording, value):
    """Prevents a comparison that is always green."""
    told = run("replay", recording, "--expect", recording, "--tolerance-mm", value, code=2)
    assert "--tolerance-mm" in told
