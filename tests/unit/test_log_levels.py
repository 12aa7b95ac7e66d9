"""Who logs at which level: what is asked for, for whom, and when it is over."""

import itertools
import json

import click
import pytest
import structlog
from click.testing import CliRunner

from farm import log, wire
from farm.broker.log_levels import MOST_PARTS, LogLevels
from farm.cli import root
from farm.cli.duration import Duration, told

WORKERS = {"1", "2", "line 7"}


@pytest.fixture
def levels():
    return LogLevels("INFO")


def ask(levels, level, part="all", for_s=60.0, now_s=0.0):
    return levels.answer(wire.LogLevel(level, part, for_s), WORKERS, now_s)


PARTS = ("broker", "supervisor", "fleet", "worker 1", "worker line 7")


def of_all(levels, now_s=1.0):
    return [levels.of(part, now_s) for part in PARTS]


def test_nobody_said_anything_and_all_is_as_configured(levels):
    # prevents: a farm that takes INFO for the default though WARNING is configured
    assert of_all(levels) == [""] * 5
    assert ask(levels, "") == wire.LogLevels("INFO", {})


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ("all", ["DEBUG"] * 5),
        ("broker", ["DEBUG", "", "", "", ""]),
        ("workers", ["", "", "", "DEBUG", "DEBUG"]),
        ("worker line 7", ["", "", "", "", "DEBUG"]),
    ],
)
def test_a_change_is_for_whom_it_was_meant(levels, part, found):
    # prevents: ten workers that flood the disk where one was to be looked at
    assert ask(levels, "DEBUG", part) == wire.LogLevels("INFO", {part: ["DEBUG", 60.0]})
    assert of_all(levels) == found


def test_it_goes_back_by_itself(levels):
    # prevents: DEBUG that somebody forgot, and a disk that is full in the morning
    ask(levels, "DEBUG", "broker", for_s=60.0)
    ask(levels, "ERROR", "worker 1", for_s=600.0)
    assert levels.of("broker", 59.9) == "DEBUG"
    assert levels.of("broker", 60.0) == ""
    assert ask(levels, "", now_s=60.0) == wire.LogLevels("INFO", {"worker 1": ["ERROR", 540.0]})


def test_one_can_be_quiet_among_all_who_are_not(levels):
    # prevents: the configured level taken for no change, and a part that follows the others
    ask(levels, "DEBUG", "workers")
    ask(levels, "INFO", "worker 1")
    assert of_all(levels) == ["", "", "", "INFO", "DEBUG"]


def test_whoever_means_all_means_each(levels):
    # prevents: `--part all INFO` that leaves one at DEBUG
    for part in ("broker", "worker 1", "workers"):
        ask(levels, "DEBUG", part)
    ask(levels, "WARNING", "workers")
    assert of_all(levels) == ["DEBUG", "", "", "WARNING", "WARNING"]
    ask(levels, "INFO", "all")
    assert of_all(levels) == ["INFO"] * 5


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (wire.LogLevel("LOUD", "all", 60.0), "DEBUG, INFO, WARNING, ERROR"),
        (wire.LogLevel("DEBUG", "worker 9", 60.0), "worker 1, worker 2, worker line 7"),
        (wire.LogLevel("DEBUG", "nursery", 60.0), "all, broker, supervisor, fleet, workers"),
        (wire.LogLevel("DEBUG", "all", 0.0), "at most 86400 s"),
        (wire.LogLevel("DEBUG", "all", 1e9), "belongs into log.level"),
    ],
)
def test_what_can_not_be_done_is_said(levels, asked, told):
    # prevents: a slip of the pen that seems to have worked
    reply = levels.answer(asked, WORKERS, 0.0)
    assert isinstance(reply, wire.Refused)
    assert told in reply.reason
    assert of_all(levels) == [""] * 5


def test_there_are_no_more_changes_than_one_can_keep(levels):
    # prevents: memory that grows with every worker that came and went
    many = {str(number) for number in range(MOST_PARTS + 1)}
    replies = [
        levels.answer(wire.LogLevel("DEBUG", f"worker {name}", 60.0), many, 0.0)
        for name in sorted(many)
    ]
    assert [isinstance(reply, wire.Refused) for reply in replies] == [False] * MOST_PARTS + [True]


@pytest.fixture
def process(monkeypatch):
    """The log of this process may be changed."""
    for name in ("_process", "_configured", "_level"):
        monkeypatch.setattr(log, name, getattr(log, name))
    yield
    structlog.reset_defaults()


def test_a_process_follows_and_says_so(process, capsys):
    # prevents: loggers that were made before and go on as they were
    log.set_up(level="WARNING", style="json", process="broker")
    held = log.get()
    steps = itertools.pairwise(["", "DEBUG", "DEBUG", "ERROR", ""])
    for _, level in steps:
        log.follow(level)
        held.debug("by_the_way", asked=level)
        held.warning("matters", asked=level)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["event"], line.get("asked", line.get("now"))) for line in lines] == [
        ("log_level_changed", "DEBUG"),
        ("by_the_way", "DEBUG"),
        ("matters", "DEBUG"),
        ("by_the_way", "DEBUG"),
        ("matters", "DEBUG"),
        ("log_level_changed", "ERROR"),
        ("matters", ""),
    ]
    assert not log.is_debug()


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86_400)]
)
def test_durations_are_read(text, seconds):
    # prevents: 10m taken for ten seconds
    assert Duration(86_400).convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "m", "-1", "0", "2d", "1e3", "10 m", "9" * 400])
def test_what_is_no_duration_is_refused(text):
    # prevents: a level that stays for ever
    with pytest.raises(click.BadParameter):
        Duration(86_400).convert(text, None, None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.6, "1 min"), (598, "9 min 58 s"), (5400, "1 h 30 min"), (86_400, "1 d")],
)
def test_durations_are_told(seconds, text):
    # prevents: "598.2331" where a person reads
    assert told(seconds) == text


@pytest.mark.parametrize("options", [["--part", "broker"], ["--for", "1h"], ["--part", "all"]])
def test_an_option_without_a_level_is_no_question(options, tmp_path):
    # prevents: who forgets DEBUG, is answered in the words of a success, and waits for lines
    command = ["logs", "level", *options, "--state-dir", str(tmp_path)]
    done = CliRunner().invoke(root, command)
    assert done.exit_code == 2
    assert "give LEVEL, too" in done.output


def test_a_duration_out_of_bounds_is_told_with_both_bounds():
    # prevents: "0s is not between nothing and 1 d", which nobody can make sense of
    done = CliRunner().invoke(root, ["logs", "level", "DEBUG", "--for", "0s"])
    assert done.exit_code == 2
    assert "0s must be more than 0 s and at most 1 d" in " ".join(done.output.split())
