"""The form of the lines: JSON off a terminal, text on one; a stranger's text is data in both."""

import json
import os
import subprocess
import sys

import pytest
from command_lines import ROOT

CODE = (
    "from farm import log; log.set_up(level='INFO', style={style!r}, process='broker'); "
    "log.get().debug('not_wanted'); "
    "log.get().warning('hole_failed', source='BOX\\x1b[31m', id=7, holes=[1, 2])"
)


def lines(style, *, is_terminal):
    command = [sys.executable, "-c", CODE.format(style=style)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    if not is_terminal:
        done = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=30)
        return done.stdout.decode().splitlines()
    ours, theirs = os.openpty()
    try:
        subprocess.run(command, env=environment, stdout=theirs, check=True, timeout=30)
        os.close(theirs)
        return os.read(ours, 10_000).decode().splitlines()
    finally:
        os.close(ours)


@pytest.mark.parametrize(("style", "is_terminal"), [("auto", False), ("json", True)])
def test_a_line_off_a_terminal_is_one_object(style, is_terminal):
    # prevents: text where a collector of logs wants JSON, and keys in another order each time
    [line] = lines(style, is_terminal=is_terminal)
    told = json.loads(line)
    assert list(told)[:4] == ["timestamp", "level", "process", "event"]
    assert told | {"timestamp": ""} == {
        "timestamp": "",
        "level": "warning",
        "process": "broker",
        "event": "hole_failed",
        "source": r"BOX\x1b[31m",
        "id": 7,
        "holes": [1, 2],
    }


@pytest.mark.parametrize(("style", "is_terminal"), [("auto", True), ("text", False)])
def test_a_line_on_a_terminal_is_for_people(style, is_terminal):
    # prevents: braces and quotes where a person reads
    [line] = lines(style, is_terminal=is_terminal)
    assert "hole_failed" in line
    assert not line.startswith("{")
    assert r"BOX\x1b[31m" in line.replace("\\\\", "\\")
