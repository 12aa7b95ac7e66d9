"""Completion as shells do it: real ones, fast, quiet, and never with what a shell would run."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from command_lines import ROOT
from journals import dead_hole, open_store, published_hole

from farm.cli import COMMANDS, known, root
from farm.doors.keyring import Keyring

HEAVY = ("torch", "numpy", "zmq", "pydantic")


@pytest.fixture
def farm_on_path(tmp_path):
    """An environment in which a shell finds `farm`, that of this checkout."""
    program = tmp_path / "bin" / "farm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m farm "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    return os.environ | home | {"PATH": path, "PYTHONPATH": str(ROOT)}


def script(shell):
    done = CliRunner().invoke(root, ["completion", shell])
    assert done.exit_code == 0
    return done.output


def run(command, environment):
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.split("\n")[:-1]


def found_shell(name):
    if shutil.which(name) is None:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"{name} is missing, and in CI nothing may be skipped: apt install {name}")
        pytest.skip(f"{name} is not installed: apt install {name}")


def offered(words, environment):
    """What click answers to a shell, without one."""
    typed = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    asked = environment | typed | {"_FARM_COMPLETE": "bash_complete"}
    return [line for line in run([sys.executable, "-m", "farm"], asked) if line]


def test_bash_completes_a_command(farm_on_path, tmp_path):
    # prevents: a script that bash can't read, or that asks a program which does not answer
    (tmp_path / "script").write_text(script("bash"))
    press_tab = (
        f"source {tmp_path}/script; complete -p farm; "
        "COMP_WORDS=(farm st); COMP_CWORD=1; _farm_completion farm st farm; "
        r'printf "%s\n" "${COMPREPLY[@]}"'
    )
    registered, *found = run(["bash", "--norc", "-c", press_tab], farm_on_path)
    assert registered.endswith("_farm_completion farm")
    assert found == ["start", "stats"]


def test_fish_completes_a_command_and_an_option(farm_on_path):
    # prevents: the same for fish
    found_shell("fish")
    ask = f"{script('fish')}\ncomplete -C 'farm st'\ncomplete -C 'farm dead list --lim'"
    found = run(["fish", "--no-config", "-c", ask], farm_on_path)
    assert [line.partition("\t")[0] for line in found] == ["start", "stats", "--limit"]


def test_zsh_completes_a_command(farm_on_path, tmp_path):
    # prevents: the same for zsh; what its completion system would be given is printed instead
    found_shell("zsh")
    (tmp_path / "_farm").write_text(script("zsh"))
    press_tab = (
        "compdef() { print $2 }; _describe() { print -l $completions_with_descriptions }; "
        f"source {tmp_path}/_farm; words=(farm st); CURRENT=2; _farm_completion"
    )
    registered, *found = run(["zsh", "-f", "-c", press_tab], farm_on_path)
    assert registered == "farm"
    assert [line.partition(":")[0] for line in found] == ["start", "stats"]


def test_the_list_of_commands_is_offered_without_importing_one(farm_on_path):
    # prevents: a second of waiting after each Tab, for PyTorch to be imported
    code = (
        "import sys; sys.argv = ['farm']\n"
        "from farm.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    asked = {"_FARM_COMPLETE": "bash_complete", "COMP_WORDS": "farm ", "COMP_CWORD": "1"}
    *found, heavy = run([sys.executable, "-c", code], farm_on_path | asked)
    assert found == [f"plain,{name}" for name in COMMANDS]
    assert heavy == "[]"


def test_names_that_are_known_are_offered(farm_on_path, tmp_path):
    # prevents: tools, results, dead letters and keys that must be typed from memory
    state = tmp_path / "s"
    state.mkdir(mode=0o700)
    store = open_store(state)
    store.write(published_hole(1, part_id="440", source="BOX-7/UNIT-2"))
    store.write(dead_hole(11, part_id="441", source="BOX-7/UNIT-3"))
    store.close(is_clean=True)
    Keyring(state).add("line-7")
    environment = farm_on_path | {"FARM_STATE_DIR": str(state)}
    assert offered(["farm", "why", "BOX"], environment) == [
        "plain,BOX-7/UNIT-2",
        "plain,BOX-7/UNIT-3",
    ]
    assert offered(["farm", "why", "UNIT-2", ""], environment) == ["plain,440"]
    assert offered(["farm", "keys", "revoke", "l"], environment) == ["plain,line-7"]
    assert offered(["farm", "models", "show", ""], environment) == ["plain,1", "plain,4"]
    assert offered(["farm", "dead", "retry", ""], environment) == ["plain,0-13"]
    assert offered(["farm", "stats", "--state-dir", "/v"], environment) == ["dir,/v"]


def test_where_nothing_is_known_nothing_is_said(farm_on_path, tmp_path):
    # prevents: a traceback in the middle of the command line that one is typing
    environment = farm_on_path | {"FARM_STATE_DIR": str(tmp_path / "none")}
    assert offered(["farm", "why", "U"], environment) == []
    assert offered(["farm", "workers", "drain", ""], environment) == []
    (tmp_path / "bad.yaml").write_text("nonsense: [")
    broken = environment | {"FARM_CONFIG": str(tmp_path / "bad.yaml")}
    assert offered(["farm", "why", "U"], broken) == []


@pytest.mark.parametrize(
    "name", ["a b", "x;reboot", "$(reboot)", "`reboot`", "*", "-rf", "a\nb", "'"]
)
def test_a_name_that_a_shell_would_take_for_more_is_not_offered(name):
    # prevents: a stranger's tool name, taken over with the Tab key, that runs something
    complete = known._known(lambda _: [name, "fine/UNIT-2"])
    context = click.Context(root)
    found = complete(context, root.params[0], "")
    assert [item.value for item in found] == ["fine/UNIT-2"]
