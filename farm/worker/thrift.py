"""Makes forks cheap: what the nursery's memory looks like to the kernel, never what is in it.

A fork copies the page tables, not the pages: with pages of 2 MB (transparent huge pages) there is
little to copy, and as little to tear down when a process ends. They must be there from the start:
made later, they would be copies that the workers forked so far don't share. Each call here is a
hint: where the kernel or the C library does not know it, forks take some milliseconds more.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

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
    tunables = [environ[_TUNABLES]] if environ.get(_TUNABLES) else []
    if "glibc.malloc.hugetlb" in environ.get(_TUNABLES, ""):
        return dict(environ)  # whoever set it has a reason
    return {**environ, _TUNABLES: ":".join([*tunables, _HUGE_HEAP])}


def settle() -> None:
    """For a nursery that has nothing to do: let go of the code that only loading needed.

    That is most of a library's. It is in the file as it was in memory, and what a worker runs is
    mapped again, once for all of them.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):  # see above: a hint
        _drop_code()


def _drop_code() -> None:
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)
    for mapping in list(_mappings()):
        # Code that something has written to, a debugger, would be lost.
        if mapping.mode == "r-xp" and mapping.path.startswith("/") and not mapping.anonymous_kb:
            madvise(mapping.start, mapping.end - mapping.start, _MADV_DONTNEED)


def grow_by_small_pages() -> None:
    """For a newborn: what it needs beyond its nursery's memory is little."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)


def forget_the_end() -> None:
    """For a newborn: what the nursery is to do at its end is not this process's to do.

    A temporary folder that a model has made while it was loaded would be removed by the first
    worker that leaves, under all others.
    """
    atexit._clear()  # noqa: SLF001 - the only way
    finalizers = weakref.finalize._registry  # type: ignore[attr-defined] # noqa: SLF001
    finalizers.clear()


def leave(code: int) -> NoReturn:
    """End this process, a nursery or a forked worker, without taking the interpreter apart.

    That would write to every object, and so copy all that is shared: ten workers that leave at once
    would need the memory of ten models.
    """
    atexit._run_exitfuncs()  # noqa: SLF001 - what a model has asked for, as at any other end
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _mappings() -> Iterator[_Mapping]:
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
