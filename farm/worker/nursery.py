"""The nursery: a process that has the model loaded and warm, and from which workers are forked.

A fork shares all of that with its nursery until one of them writes to it, and is there in
milliseconds. It must take nothing along that a fork breaks: the nursery has one thread, no socket
but the one to its supervisor, and no GPU; where the model brings any of these it says so, and ends.

It forks twice, the one in between ends at once: so a worker is the supervisor's child, which learns
its exit code, and outlives the nursery.
"""

from __future__ import annotations

import array
import os
import socket
import sys
from collections import defaultdict
from contextlib import suppress
from fcntl import F_GETFL, fcntl
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from farm import log, wire
from farm.config import Config
from farm.errors import ExitCode
from farm.gpus import NO_GPU_ENVIRONMENT, hides
from farm.supervisor.memory import offer_to_kernel
from farm.supervisor.parent import die_with_parent
from farm.worker.equipment import Equipment, equip
from farm.worker.process import run as run_worker
from farm.worker.process import say_unusable
from farm.worker.thrift import forget_exit_hooks, grow_by_small_pages, mappings, settle
from farm.worker.title import set_title

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

MAX_FORK_BYTES: Final = 4096  # of one request
IDLE_S: Final = 0.1  # without a request: all workers are there, and it is time to tidy
_TASKS: Final = Path("/proc/self/task")
_OPEN: Final = Path("/proc/self/fd")
_HARMLESS: Final = ("/dev/null", "/dev/urandom", "/dev/random")  # have no offset to share
_STANDARD: Final = range(3)  # whoever started the farm may have given it sockets as these


class Newborn(NamedTuple):
    """What a worker knows that was just forked."""

    name: str
    birth: socket.socket
    between_pid: int  # of the one in between: until it has ended, the worker is its child


def run(*, control: socket.socket, supervisor_pid: int) -> ExitCode:
    """Load what is asked for, then fork on request until the supervisor is gone; or be a worker.

    Args:
        control: to the supervisor; a sequence of packets.
        supervisor_pid: who is to be the parent of the workers.
    """
    frame = control.recv(wire.MAX_HEAD_BYTES)
    if not frame:
        return ExitCode.OK  # it was started before the configuration was known, which wants none
    order = wire.decode([frame])
    assert isinstance(order, wire.Load)
    config = Config.model_validate(order.config)
    log.set_up(level=config.log.level, style=config.log.format, process="nursery")
    if hides(config, os.environ):  # those with a GPU are others, and never forked
        os.environ.update(NO_GPU_ENVIRONMENT)
    before = frozenset(descriptors())
    try:
        equipment = equip(config)
    # as in a worker: a model may fail in any way
    except Exception as error:  # noqa: BLE001
        say_unusable(error)
        return ExitCode.MODEL
    unfit = unfit_because(control, before)
    version = str(equipment.model.version)
    control.send(wire.encode(wire.NurseryReady(unfit, version, equipment.load_s)))
    newborn = None if unfit else _serve(control)
    if newborn is None:
        return ExitCode.OK
    control.close()
    return _live(newborn, equipment, order.control_endpoint, supervisor_pid)


def unfit_because(control: socket.socket, before: Collection[tuple[int, str]]) -> str:
    """Why no worker can be forked from this process; "" where one can.

    Args:
        control: the one socket that it may have.
        before: the `descriptors` that were open before the model was loaded.
    """
    threads = [(task / "comm").read_text().strip() for task in _TASKS.iterdir()]
    if len(threads) > 1:
        others = ", ".join(sorted(threads)[:5])
        return f"the model has started {len(threads) - 1} threads (of all: {others})"
    kept: defaultdict[str, list[int]] = defaultdict(list)
    for number, target in sorted(descriptors()):
        if number in _STANDARD or number == control.fileno():
            continue
        if target.startswith("socket:"):
            return "the model has opened a socket"
        if target.startswith(("/dev/nvidia", "/dev/dri/", "/dev/kfd")):
            return f"the model uses a GPU ({target})"
        if (number, target) not in before and target not in _HARMLESS:
            kept[target].append(number)
    for target, numbers in kept.items():
        if not _are_of_mappings(target, numbers):
            return f"the model or the adapter keeps {target} open"  # all would share its offset
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "the model uses a GPU (CUDA)"
    return ""


def _are_of_mappings(path: str, numbers: Sequence[int]) -> bool:
    """Whether these descriptors of one file are only there because it is mapped for reading.

    Python's `mmap`, and with it `numpy.memmap`, keeps one open for each mapping and never reads by
    it. One more, and something else may do that. What is written to a shared mapping all would see.
    """
    try:
        if any(fcntl(number, F_GETFL) & os.O_ACCMODE != os.O_RDONLY for number in numbers):
            return False
        modes = [mapping.mode for mapping in mappings() if mapping.path == path]
    except OSError:
        return False
    return len(numbers) <= len(modes) and not any("w" in mode and "s" in mode for mode in modes)


def descriptors() -> Iterator[tuple[int, str]]:
    """Number and target of each open descriptor."""
    for link in list(_OPEN.iterdir()):
        try:
            yield int(link.name), str(link.readlink())
        except OSError:  # the one that the listing itself had
            continue


# ---- forking ------------------------------------------------------------------------------------


def _serve(control: socket.socket) -> Newborn | None:
    """Fork on request. Returns in each worker what it knows; None: the supervisor is gone."""
    control.settimeout(IDLE_S)
    while True:
        try:
            name, birth = _request(control)
        except TimeoutError:
            with suppress(OSError, ValueError):  # a hint
                settle()
            control.settimeout(None)  # once: nothing changes any more
            continue
        if birth is None:
            return None
        with birth:
            between = _fork_twice()
            if between:
                # a copy, since this one is closed
                return Newborn(name, birth.dup(), between)


def _request(control: socket.socket) -> tuple[str, socket.socket | None]:
    size = array.array("i").itemsize
    frame, sent, _, _ = control.recvmsg(MAX_FORK_BYTES, socket.CMSG_SPACE(size))
    if not frame:
        return "", None
    request = wire.decode([frame])
    [(_, _, data)] = sent
    [descriptor] = array.array("i", data)
    assert isinstance(request, wire.Fork)
    return request.name, socket.socket(fileno=descriptor)


def _fork_twice() -> int:
    """A child of a child, which ends.

    Returns:
        In the new process the pid of the one in between, 0 in this one. Where there is no room for
        another process none comes, and the supervisor notices that its birth socket is closed.
    """
    sys.stdout.flush()
    try:
        between = os.fork()
    except OSError as error:
        log.get().error("fork_failed", reason=str(error))
        return 0
    if between:
        os.waitpid(between, 0)
        return 0
    between = os.getpid()
    try:
        child = os.fork()
    except OSError as error:
        log.get().error("fork_failed", reason=str(error))
        os._exit(1)
    if child:
        os._exit(0)
    return between


def _live(
    newborn: Newborn, equipment: Equipment, control_endpoint: str, supervisor_pid: int
) -> ExitCode:
    """Be the worker that was forked, if the supervisor knows of it."""
    while os.getppid() == newborn.between_pid:
        os.sched_yield()  # it ends without doing anything else
    if not die_with_parent(supervisor_pid):
        return ExitCode.FAILURE
    os.setpgid(0, 0)
    with newborn.birth as birth:
        birth.send(str(os.getpid()).encode())
        # Nobody waits for it any more: the supervisor has ended, or has started another.
        if birth.recv(len(wire.BEGIN)) != wire.BEGIN:
            return ExitCode.OK
    name = newborn.name
    with suppress(OSError, ValueError):  # it only looks like its nursery
        set_title(["farm", "worker", "--name", name], f"farm worker {name}")
    told = equipment.config.log
    log.set_up(level=told.level, style=told.format, process=f"worker {name}")
    offer_to_kernel()
    forget_exit_hooks()
    with suppress(OSError, ValueError):  # a hint
        grow_by_small_pages()
    _draw_anew()
    return run_worker(
        name=name, control_endpoint=control_endpoint, by_hand=False, inherited=equipment
    )


def _draw_anew() -> None:
    """Ten forks must not draw the same random numbers; Python's own are drawn anew already."""
    if random := sys.modules.get("numpy.random"):  # numpy itself imports it only when it is used
        random.seed()
    if torch := sys.modules.get("torch"):
        torch.default_generator.seed()
