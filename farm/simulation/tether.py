"""Runs a command that dies with the process that asked for it.

    python -m farm.simulation.tether PARENT_PID command argument …

A broker left behind by a killed demo would hold its port and its memory for ever. The request to
the kernel survives exec, so any program can be tethered. It fires when the *thread* that started
us ends: start from one that lives as long as the command is needed.
"""

from __future__ import annotations

import os
import sys

from farm.supervisor.parent import die_with_parent

USAGE_EXIT = 2
NOT_FOUND_EXIT = 127  # as in a shell


def tethered(command: list[str]) -> list[str]:
    """The command line that runs a command tethered to this process, under one and the same pid."""
    return [sys.executable, "-m", "farm.simulation.tether", str(os.getpid()), *command]


def main() -> None:
    """Ask the kernel for our end with our parent's, then become the command."""
    if len(sys.argv) < 3:
        sys.exit(USAGE_EXIT)
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if not die_with_parent(parent):
        sys.exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606 - the point of this module
    except OSError as error:
        print(f"{command[0]}: {error}", file=sys.stderr)  # noqa: T201 - read by the starter
        sys.exit(NOT_FOUND_EXIT)


if __name__ == "__main__":
    main()
