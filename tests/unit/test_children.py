"""Children that something else has waited for."""

from __future__ import annotations

import subprocess
import sys


def test_a_child_that_is_gone_keeps_no_other_from_being_killed() -> None:
    # prevents: processes that outlive a supervisor over a pid that is not there any more
    code = """
import os, signal, subprocess, sys
from farm.supervisor.children import Children
children = Children()
gone, alive = (subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) for _ in range(2))
children.take(gone)
children.take(alive)
gone.kill()
os.waitpid(gone.pid, 0)
children.signal([gone.pid], signal.SIGTERM)
children.kill_all()
print(alive.returncode)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("-9", "")
