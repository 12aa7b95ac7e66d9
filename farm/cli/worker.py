"""`farm worker`: one worker, by hand or under the supervisor."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from farm import log
from farm.cli.options import config_option, load, state_dir_option
from farm.errors import ExitCode
from farm.slot import MAX_GATHERED_JOBS
from farm.state_dir import endpoints, resolve_state_dir
from farm.supervisor.memory import offer_to_kernel
from farm.supervisor.parent import die_with_parent
from farm.systemd import of_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farm.doors.invite import Invite

INVITE_VARIABLE: Final = "FARM_INVITE"
RETRY_S: Final = 15.0  # after a failure: whatever it was, a person may have mended it there


@click.command()
@config_option
@state_dir_option
@click.option("--connect", metavar="ENDPOINT", help="Control socket of the farm to join.")
@click.option(
    "--key",
    "key_file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Key file from `farm keys new --out`, to join a farm on another machine.",
)
@click.option(
    "--join",
    metavar="INVITE",
    help="Invite from `farm keys new`; - reads it from standard input, where nobody sees it.  "
    "[default: FARM_INVITE]",
)
@click.option(
    "--gpu",
    metavar="GPU",
    help="Compute on this GPU alone: an index or UUID as in `nvidia-smi -L`, or auto: the first.",
)
@click.option(
    "--batch-jobs",
    type=click.IntRange(1, MAX_GATHERED_JOBS),
    help="Most holes of one batch on a GPU, where it has less memory than others.  "
    "[default: dispatch.gpu_batch_jobs of the farm]",
)
@click.option("--device", hidden=True, help="What the supervisor calls this worker's GPU.")
@click.option("--name", default="", help="Name in logs and stats.  [default: pid-PID]")
@click.option("--parent", type=int, hidden=True, help="Die with this process.")
def command(
    *,
    config_path: Path | None,
    state_dir: Path | None,
    connect: str | None,
    key_file: Path | None,
    join: str | None,
    gpu: str | None,
    batch_jobs: int | None,
    device: str | None,
    name: str,
    parent: int | None,
) -> None:
    """Run one worker, under the supervisor or by hand.

    It joins the farm of the state directory, or with a key one on another machine; it learns
    everything else from it, and stays until SIGTERM: then it finishes its job and leaves. It waits
    for a farm that is not there yet, and joins again one that was gone.

    \b
    Examples:
      farm worker                  join the farm of the default state directory
      farm worker --connect tcp://127.0.0.1:7003 --name bench-7
      farm worker --join -         paste an invite of a farm on another machine
      farm worker --key line-7.key  the same, with a key file
      farm worker --gpu 0 --join -  the same, on a GPU (docs/gpu.md)
    """
    if parent is not None and not die_with_parent(parent):
        sys.exit(1)
    config = load(config_path, state_dir=state_dir).config
    invite = read_invite(join, key_file, is_by_hand=parent is None)
    name = name or (f"{invite.name}-{os.getpid()}" if invite else f"pid-{os.getpid()}")
    log.set_up(level=config.log.level, style=config.log.format, process=f"worker {name}")
    if connect and not connect.startswith(("tcp://", "ipc://")):
        raise click.BadParameter(
            f"{connect!r} is neither tcp://HOST:PORT nor ipc:///PATH", param_hint="--connect"
        )
    if gpu is not None:  # before anything can ask CUDA which there are
        from farm.gpus import assigned  # noqa: PLC0415 - the models, not for --help

        chosen = assigned(gpu, os.environ)
        os.environ.update(chosen.environment)
        device = chosen.device
    if batch_jobs and not device:
        raise click.UsageError("--batch-jobs is for a worker with a GPU: give --gpu, too")
    if invite is not None:
        place = {"--gpu": gpu, "--batch-jobs": batch_jobs}
        again = options(config_path, state_dir, key_file, place, name)
        join_from_afar(
            invite,
            connect or invite.endpoint,
            again,
            is_on_command_line=bool(join),
            gpu=(device or "", batch_jobs or 0),
        )
    if connect and not is_here(connect):
        raise click.UsageError(
            f"{connect} is on another machine, whose doors open to keys alone: give --key or "
            "--join (`farm keys new` there makes one)"
        )
    endpoint = connect or endpoints(config, resolve_state_dir(config, os.environ)).control
    if parent is not None:
        offer_to_kernel()
    from farm.worker.process import run  # noqa: PLC0415 - numpy and the models, not for --help

    by_hand = parent is None
    sys.exit(
        run(
            name=name,
            control_endpoint=endpoint,
            by_hand=by_hand,
            device=device or "",
            batch_jobs=batch_jobs or 0,
            service=of_environment(os.environ, is_taken_out=False) if by_hand else None,
        )
    )


def read_invite(join: str | None, key_file: Path | None, *, is_by_hand: bool) -> Invite | None:
    """The invite that was given in one of the three ways; None: in none of them.

    Args:
        join: of the option.
        key_file: of the option.
        is_by_hand: else the supervisor's own workers would follow an invite in its environment.

    Raises:
        StateError: it is none, or others may read it.
    """
    from farm.doors.invite import Invite  # noqa: PLC0415 - zmq, not for --help

    if key_file is not None and join is not None:
        raise click.UsageError("--key and --join say the same in two ways: give one of them")
    if key_file is not None:
        return Invite.load(key_file)
    line = join or (os.environ.get(INVITE_VARIABLE, "") if is_by_hand else "")
    if line == "-":
        return Invite.of_line(sys.stdin.readline())
    return Invite.of_line(line) if line else None


def is_here(endpoint: str) -> bool:
    """Whether an endpoint is on this machine, where no key is asked for."""
    from farm.config.listening import is_loopback  # noqa: PLC0415 - pydantic, not for --help
    from farm.doors.invite import host_of  # noqa: PLC0415 - zmq

    return endpoint.startswith("ipc://") or is_loopback(host_of(endpoint))


def options(
    config_path: Path | None,
    state_dir: Path | None,
    key_file: Path | None,
    place: Mapping[str, Any],
    name: str,
) -> list[str]:
    """The options with which this command is run again; the invite is in the environment."""
    given = {"--config": config_path, "--state-dir": state_dir, "--key": key_file, **place}
    given["--name"] = name
    return [word for option, value in given.items() if value for word in (option, str(value))]


def join_from_afar(
    invite: Invite,
    endpoint: str,
    again: list[str],
    *,
    is_on_command_line: bool,
    gpu: tuple[str, int],
) -> NoReturn:
    """Be a worker on another machine until it is told to leave.

    It is started anew as often as the farm wants it, and after every failure: nobody may be there
    who would do that.

    Args:
        invite: who it is, and to whom it belongs.
        endpoint: of the farm's control socket.
        again: options of the process that comes after this one.
        is_on_command_line: whether the invite is in the arguments of this one.
        gpu: its device, "" for none, and the most of one batch, 0 for what the farm says.
    """
    from farm.sockets import Credentials  # noqa: PLC0415 - zmq, not for --help
    from farm.worker.process import run  # noqa: PLC0415
    from farm.worker.title import set_title  # noqa: PLC0415

    if is_on_command_line:  # where every user of this machine could read the secret in it
        set_title(["farm", "worker", "--join", "-", *again], "farm worker")
    credentials = Credentials(invite.pair, invite.farm_key)
    device, batch_jobs = gpu
    code = run(
        name=again[-1],
        control_endpoint=endpoint,
        by_hand=True,
        credentials=credentials,
        device=device,
        batch_jobs=batch_jobs,
        # stays in the environment: the process that comes after this one has the same pid
        service=of_environment(os.environ, is_taken_out=False),
    )
    if code is ExitCode.OK:
        sys.exit(code)
    for signum in (signal.SIGTERM, signal.SIGINT):  # from here on there is nothing to finish
        signal.signal(signum, signal.SIG_DFL)
    wait_s = 0.0 if code is ExitCode.ANEW else RETRY_S
    log.get().info("worker_starts_anew", in_s=wait_s)
    time.sleep(wait_s)
    if "--key" not in again:
        os.environ[INVITE_VARIABLE] = invite.line()
    command_line = [sys.executable, "-P", "-m", "farm", "worker", "--connect", endpoint, *again]
    os.execv(sys.executable, command_line)  # noqa: S606 - this very program
