"""Makes forks cheap: what the nursery's memory looks like to the kernel, never what is in it.

A fork copies the page tables, not the pages: with pages of 2 MB (transparent huge pages) there is
little to copy, and as little to tear down when a process ends. They must be there from the start:
made later, they would be copies that the workers forked so far don't share. Each call here is a
hint: where the kernel or the C library does not know it, forks take some milliseconds more.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TUNABLES: Final = "GLIBC_TUNABLES"
_HUGE_HEAP: Final = "glibc.malloc.hugetlb=1"  # malloc asks for huge pages; since 2.35
_MAPPINGS: Final = Path("/proc/self/smaps")
_MADV_DONTNEED: Final = 4  # asm-generic/mman-common.h
_PR_SET_THP_DISABLE: Final = 41  # linux/prctl.h


class _Mapping(NamedTuple):
    start: int
    end: int
    mode: str
    path: str
    anonymous_kb: int


def nursery_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a nursery is to be started: its heap is made of huge pages.

    Besides cheaper forks that saves page faults: loading takes a fifteenth less.
    """
    if _HUGE_HEAP.partition("=")[0] in environ.get(_TUNABLES, ""):  # the operator has the say
        return dict(environ)
    tunables = [environ[_TUNABLES]] if environ.get(_TUNABLES) else []
    return {**environ, _TUNABLES: ":".join([*tunables, _HUGE_HEAP])}


def settle() -> None:
    """For a nursery that has nothing to do: let go of the code that only loading needed.

    That is most of a library's. It is in the file as it was in memory, and what a worker runs is
    mapped again, once for all of them.
    """
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)
    for mapping in list(mappings()):
        # Code that something has written to, a debugger, would be lost.
        if mapping.mode == "r-xp" and mapping.path.startswith("/") and not mapping.anonymous_kb:
            madvise(mapping.start, mapping.end - mapping.start, _MADV_DONTNEED)


def grow_by_small_pages() -> None:
    """For a newborn: what it needs beyond its nursery's memory is little."""
    ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)


def forget_exit_hooks() -> None:
    """For a newborn: what was to be done at the end of its nursery is not its own to do.

    A temporary folder that the model unpacked itself to is that of all: the first worker that
    leaves would remove it. What the worker itself asks for from now on is done at its end.
    """
    atexit._clear()  # noqa: SLF001 - there is no public way to forget hooks one does not know
    finalize: Any = weakref.finalize
    for finalizer in list(finalize._registry):  # noqa: SLF001
        finalizer.detach()
    finalize._registered_with_atexit = False  # noqa: SLF001 - else new ones would never run


def leave(code: int) -> NoReturn:
    """End this process, a nursery or a forked worker, without taking the interpreter apart.

    That would write to every object, and so copy all that is shared: ten workers that leave at once
    would need the memory of ten models.
    """
    atexit._run_exitfuncs()  # noqa: SLF001 - what a model has asked for, as at any other end
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def mappings() -> Iterator[_Mapping]:
    """This process's memory, as proc(5) describes it."""
    head: list[str] = []
    for line in _MAPPINGS.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, rest = line.partition(":")
        if name == "Anonymous" and head:
            start, _, end = head[0].partition("-")
            path = head[5] if len(head) > 5 else ""
            yield _Mapping(int(start, 16), int(end, 16), head[1], path, int(rest.split()[0]))
        elif " " in name:  # no key, but the range that begins a mapping
            head = line.split(maxsplit=5)
