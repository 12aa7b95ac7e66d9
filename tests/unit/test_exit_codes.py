"""The page of exit codes, the units of systemd and supervisord, and the code agree."""

import configparser
import re
from pathlib import Path

from click.testing import CliRunner

from farm.cli import root
from farm.errors import ExitCode

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "exit-codes.md"
ROW = re.compile(r"^\| (\d+) \| (\w+) \| (.+?) \| (.+?) \| (\w*) ?\|$", re.MULTILINE)


def rows():
    return ROW.findall(PAGE.read_text(encoding="utf-8"))


def test_the_page_has_every_code_and_no_other():
    # prevents: a script that looks 9 up and finds nothing, or something else
    assert {(int(code), name) for code, name, *_ in rows()} == {
        (code.value, code.name) for code in ExitCode
    }


def needs_person():
    return {int(code) for code, *_, again in rows() if again == "no"}


def prevented(unit):
    text = (ROOT / "etc" / unit).read_text(encoding="utf-8")
    told = re.search(r"^RestartPreventExitStatus=(.*)$", text, re.MULTILINE)
    return {int(code) for code in told[1].split()} if told else set()


def test_systemd_and_supervisord_leave_to_a_person_what_the_page_does():
    # prevents: a wrong configuration that is tried for ever, or an out-of-memory that is not
    assert prevented("farm.service") == needs_person()
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "etc" / "supervisord.conf")
    codes = {int(code) for code in settings["program:farm"]["exitcodes"].split(",")}
    assert codes == needs_person() | {ExitCode.OK}


def test_a_far_worker_is_not_tried_for_ever_over_what_only_a_person_can_mend():
    # prevents: a key file with wrong rights, and a start every five seconds for a weekend
    never_of_a_worker = {ExitCode.MQTT_EVICTED, ExitCode.JOURNAL}
    assert prevented("farm-worker.service") == needs_person() - never_of_a_worker


def test_the_help_names_the_page():
    # prevents: a code in a script, and nobody knows where it is explained
    assert "docs/exit-codes.md" in CliRunner().invoke(root, ["--help"]).output
