"""What `ps` and `top` show of a process that was forked: else all of them look like the nursery."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_STAT: Final = Path("/proc/self/stat")
_NAME: Final = Path("/proc/self/comm")
# proc(5) counts from 1: the fields 48 and 49; the two before the name's end stand in parentheses
_ARGUMENTS_AT: Final = slice(48 - 3, 49 - 2)


def set_title(arguments: Sequence[str], name: str) -> None:
    """Change this process's command line, as far as the room of the former one goes, and its name.

    Args:
        arguments: of the command line.
        name: the kernel's, of at most 15 bytes; what is beyond is cut.
    """
    _NAME.write_text(name, encoding="utf-8")
    start, end = map(int, _STAT.read_text().rpartition(")")[2].split()[_ARGUMENTS_AT])
    room = end - start
    if room < 1:  # the kernel does not tell
        return
    text = b"\0".join(argument.encode() for argument in arguments)[: room - 1]
    # the last byte must be 0: else the kernel takes what follows, the environment, for arguments
    ctypes.memmove(start, text.ljust(room, b"\0"), room)
