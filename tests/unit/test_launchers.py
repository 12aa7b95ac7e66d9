"""bin/farm and bin/test, with a stand-in for Python and pip: what they do, say and leave alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Plays `python`: makes a venv with itself in it, and "installs" a farm that tells its arguments.
FAKE_PYTHON = """\
#!/bin/sh
case "$*" in
    --version) echo "Python 3.12.0" ;;
    "-c import sys; sys.exit"*) exit "${FAKE_TOO_OLD:-0}" ;;
    "-c import ensurepip"*) exit "${FAKE_NO_VENV:-0}" ;;
    "-c import sys; print("*) echo python3.12 ;;
    "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
    "-m pip --version") ;;
    "-m pip install"*)
        echo "$@" >>"$FAKE_LOG"
        echo "noise of pip"
        sleep "${FAKE_PIP_S:-0}"
        [ -z "${FAKE_PIP_FAILS:-}" ] || exit 1
        printf '#!/bin/sh\\n# farm.__main__\\necho "farm of %s:" "$@"\\n' "$0" >"${0%/*}/farm"
        chmod +x "${0%/*}/farm" ;;
    "-m pytest"*) echo "pytest in $PWD: $*" ;;
    *) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""


class Checkout:
    """A copy of what the launchers touch, with a Python of its own."""

    def __init__(self, folder):
        self.root = folder / "check out"  # with a blank: paths must be quoted
        (self.root / "etc").mkdir(parents=True)
        (folder / "tools").mkdir()
        shutil.copytree(ROOT / "bin", self.root / "bin")
        shutil.copy(ROOT / "setup.cfg", self.root)
        shutil.copy(ROOT / "etc" / "constraints.txt", self.root / "etc")
        self.python = self.script(folder / "tools" / "python", FAKE_PYTHON)
        self.script(folder / "tools" / "mosquitto", "#!/bin/sh\n")
        self.log = folder / "pip.log"
        self.environ = {
            "PATH": f"{folder / 'tools'}:/usr/bin:/bin",
            "FARM_PYTHON": str(self.python),
            "FAKE_LOG": str(self.log),
        }

    def script(self, path, text):
        path.write_text(text)
        path.chmod(0o755)
        return path

    def start(self, program="bin/farm", *args, cwd="/", **environ):
        return subprocess.Popen(
            [self.root / program, *args],
            cwd=cwd,
            env={**self.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *args, **environ):
        process = self.start(*args, **environ)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    @property
    def installs(self):
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_the_first_start_sets_up_and_tells_so_the_second_is_silent(checkout):
    python = checkout.root / ".venv" / "bin" / "python"
    code, out, err = checkout.run("bin/farm", "stats", "a b")
    assert (code, out) == (0, f"farm of {python}: stats a b\n")
    assert [line.split(":")[1].split()[0] for line in err.splitlines()] == [
        "first",
        "making",
        "installing",
        "ready",
    ]
    assert "noise" not in err
    (install,) = checkout.installs
    assert install.endswith(f"-c {checkout.root}/etc/constraints.txt -e {checkout.root}[demo]")

    assert checkout.run("bin/farm", "x") == (0, f"farm of {python}: x\n", "")
    assert len(checkout.installs) == 1


@pytest.mark.parametrize("file", ["setup.cfg", "etc/constraints.txt"])
def test_a_changed_setup_installs_again(checkout, file):
    checkout.run()
    with (checkout.root / file).open("a") as setup:
        setup.write("# changed\n")
    _, _, err = checkout.run()
    assert err.startswith("farm: setup.cfg or the constraints changed\n")
    assert "making" not in err
    assert checkout.run()[2] == ""
    assert len(checkout.installs) == 2


def test_a_moved_checkout_is_set_up_again(checkout):
    """The environment holds absolute paths."""
    checkout.run()
    checkout.root = checkout.root.rename(checkout.root.with_name("moved"))
    checkout.run()
    assert checkout.installs[-1].endswith(f"-e {checkout.root}[demo]")


def test_a_failed_install_shows_what_pip_said_and_is_tried_again(checkout):
    code, out, err = checkout.run("bin/farm", FAKE_PIP_FAILS="1")
    assert (code, out) == (1, "")
    assert "noise of pip\nfarm: installing" in err
    assert "HTTPS_PROXY" in err.splitlines()[-1]
    assert checkout.run()[0] == 0


def test_two_first_starts_install_once(checkout):
    first = checkout.start(FAKE_PIP_S="1")
    deadline = time.monotonic() + 20
    while not checkout.installs and time.monotonic() < deadline:
        time.sleep(0.02)
    code, _, err = checkout.run()
    assert first.communicate(timeout=20)[1].endswith("farm: ready\n")
    assert (first.returncode, code) == (0, 0)
    assert "another start is setting up" in err
    assert len(checkout.installs) == 1


@pytest.mark.parametrize(
    ("environ", "cure"),
    [
        ({"FAKE_TOO_OLD": "1"}, "Python 3.11 or newer is needed"),
        ({"FAKE_NO_VENV": "1"}, "apt install python3.12-venv"),
        ({"FARM_PYTHON": "/nowhere/python"}, "none of /nowhere/python is that"),
    ],
)
def test_without_a_fit_python_it_says_what_to_do(checkout, environ, cure):
    code, out, err = checkout.run("bin/farm", **environ)
    assert (code, out) == (1, "")
    assert cure in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("is_old", [False, True])
def test_a_tab_installs_nothing(checkout, is_old):
    # prevents: a shell that hangs for minutes, in silence or in pip's words, because of one Tab
    if is_old:
        checkout.run()
        (checkout.root / "etc" / "constraints.txt").write_text("other==1\n")
    before = len(checkout.installs)
    assert checkout.run(_FARM_COMPLETE="bash_complete") == (0, "", "")
    assert len(checkout.installs) == before
    assert checkout.run()[0] == 0
    assert "farm of" in checkout.run(_FARM_COMPLETE="bash_complete")[1]


def test_it_runs_through_a_symlink_from_anywhere(checkout, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(checkout.root / "bin" / "farm")
    process = subprocess.run(
        [link, "x"], cwd=tmp_path, env=checkout.environ, capture_output=True, text=True, check=True
    )
    assert process.stdout == f"farm of {checkout.root}/.venv/bin/python: x\n"


def test_an_environment_with_farm_is_used_as_it_is(checkout, tmp_path):
    active = tmp_path / "active" / "bin"
    active.mkdir(parents=True)
    other = "#!/bin/sh\necho another project\n"
    checkout.script(active / "farm", other)  # a program that happens to be called farm
    assert "another project" not in checkout.run(VIRTUAL_ENV=str(active.parent))[1]
    shutil.rmtree(checkout.root / ".venv")

    ours = "#!/bin/sh\n# from farm.__main__ import main\necho the active farm\n"
    checkout.script(active / "farm", ours)
    assert checkout.run(VIRTUAL_ENV=str(active.parent)) == (0, "the active farm\n", "")
    checkout.script(active / "python3", "#!/bin/sh\n")
    path = f"{active}:{checkout.environ['PATH']}"
    assert checkout.run(PATH=path) == (0, "the active farm\n", "")
    assert not (checkout.root / ".venv").exists()


def test_the_environment_can_live_elsewhere(checkout, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    _, out, _ = checkout.run(FARM_VENV=str(elsewhere))
    assert out == f"farm of {elsewhere}/bin/python:\n"
    assert not (checkout.root / ".venv").exists()


def test_tests_run_in_the_root_with_their_extras(checkout):
    checkout.run()
    code, out, _ = checkout.run("bin/test", "tests/unit", "-q")
    assert code == 0
    assert out == f"pytest in {checkout.root}: -m pytest tests/unit -q\n"
    assert [line.rpartition("[")[2] for line in checkout.installs] == ["demo]", "test]"]
    assert checkout.run()[2] == ""  # the extras of the tests hold those of the demo


def test_without_arguments_all_is_checked_and_tested_several_at_a_time(checkout):
    # prevents: a check that is left out, and a suite of half an hour that nobody runs
    checkout.run("bin/test", "tests/unit")
    for tool in ("ruff", "mypy"):
        place = checkout.root / ".venv" / "bin" / tool
        checkout.script(place, f'#!/bin/sh\necho {tool} "$@"\n')
    code, out, _ = checkout.run("bin/test")
    assert code == 0
    assert [line.strip() for line in out.splitlines()] == [
        "ruff check --quiet",
        "ruff format --check --quiet",
        "mypy",
        f"pytest in {checkout.root}: -m pytest -n auto --dist worksteal",
    ]


def test_without_mosquitto_the_tests_say_how_to_get_it(checkout):
    """The machine that runs this has one, so the shell is told that it has not."""
    script = ". bin/setup.sh; command() { return 1; }; id() { echo 1000; }; use_mosquitto; echo on"
    told = subprocess.run(
        ["sh", "-c", script], cwd=checkout.root, capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stdout) == (1, "")
    assert "sudo apt install mosquitto" in told.stderr


@pytest.mark.parametrize("file", ["bin/farm", "bin/test", "bin/setup.sh", ".ci/run"])
def test_they_are_plain_shell(file):
    subprocess.run(["sh", "-n", ROOT / file], check=True)
    assert os.access(ROOT / file, os.X_OK) == (file != "bin/setup.sh")
