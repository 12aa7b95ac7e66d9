"""`farm keys`: which workers on other machines may attach."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from farm.cli import known
from farm.cli.group import Group
from farm.cli.options import config_option, load, state_dir_option
from farm.errors import StateError
from farm.printable import printable
from farm.state_dir import resolve_state_dir

if TYPE_CHECKING:
    from farm.config import Config
    from farm.doors.keyring import Keyring


@click.group(cls=Group)
def command() -> None:
    """Let workers on other machines attach, or shut them out.

    Each has a key of its own, made here. The farm must be told to listen: attach.listen.

    \b
    Examples:
      farm keys new line-7              prints an invite, for `farm worker --join`
      farm keys new line-7 --out line-7.key
      farm keys list
      farm keys revoke line-7           at once, also for open connections
    """


@command.command()
@config_option
@state_dir_option
@click.argument("name")
@click.option(
    "--host",
    metavar="HOST",
    help="Where the worker reaches this machine.  [default: attach.public_host, else the host in "
    "attach.listen, else our name]",
)
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a key file (0600) instead of printing the invite.",
)
def new(
    config_path: Path | None, state_dir: Path | None, name: str, host: str | None, out: Path | None
) -> None:
    """Make a key for the worker NAME, and the invite that holds it.

    Whoever has the invite is that worker: give it to one machine, by a way that others can't read.

    \b
    Examples:
      farm keys new line-7
      farm keys new line-7 --host 10.1.2.3 --out line-7.key
    """
    from farm.doors.invite import Invite, is_endpoint  # noqa: PLC0415 - zmq, not for --help

    config, keyring = _keyring(config_path, state_dir)
    endpoint = f"tcp://{host or _reached_at(config)}:{config.attach.port}"
    if not config.attach.listen:
        raise StateError(
            "this farm listens to no other machine: set attach.listen (for example 0.0.0.0:7003) "
            "in its configuration first, and name that with --config"
        )
    if not is_endpoint(endpoint):
        raise click.BadParameter(f"{host!r} is no host", param_hint="--host")
    if out is not None and out.exists():
        raise StateError(f"{out} is there already: choose another --out")
    farm_key = keyring.farm_key()
    pair = keyring.add(name)
    invite = Invite(endpoint, farm_key.public, name, pair.public, pair.secret)
    if out is None:
        click.echo(invite.line())
        click.echo(f"On the other machine: farm worker --join -   (then paste the line; "
                   f"it joins {endpoint})", err=True)  # fmt: skip
    else:
        invite.save(out)
        click.echo(f"{out} written: farm worker --connect {endpoint} --key {out.name}")


@command.command("list")
@config_option
@state_dir_option
def list_(config_path: Path | None, state_dir: Path | None) -> None:
    """List the keys of workers that may attach.

    \b
    Examples:
      farm keys list
    """
    _, keyring = _keyring(config_path, state_dir)
    keys, damaged = keyring.read()
    if not keys and not damaged:
        click.echo("no keys: nobody on another machine may attach; `farm keys new NAME` makes one")
    width = max((len(key.name) for key in keys), default=0)
    for key in keys:
        click.echo(f"{key.name:<{width}}  made {printable(key.made, 40) or 'at an unknown time'}")
    for name, fault in damaged.items():
        click.echo(f"{printable(name)}  can't be used: {printable(str(fault))}", err=True)


@command.command()
@config_option
@state_dir_option
@click.argument("name", shell_complete=known.keys)
def revoke(config_path: Path | None, state_dir: Path | None, name: str) -> None:
    """Shut the worker NAME out, at once; a running farm ends its open connections.

    \b
    Examples:
      farm keys revoke line-7
    """
    config, keyring = _keyring(config_path, state_dir)
    keyring.revoke(name)
    if config.attach.listen and not keyring.workers():
        click.echo(
            "that was the last key: a farm that runs goes on, but `farm start` will refuse; make "
            "another one, or empty attach.listen",
            err=True,
        )
    click.echo(f"{name} may come in no more; a running farm ends its connections within a second")


def _keyring(config_path: Path | None, state_dir: Path | None) -> tuple[Config, Keyring]:
    from farm.doors.keyring import Keyring  # noqa: PLC0415 - zmq, not for --help

    config = load(config_path, state_dir=state_dir).config
    directory = resolve_state_dir(config, os.environ)
    if directory.stat().st_uid != os.geteuid():
        owner = directory.owner()
        raise StateError(
            f"{directory} is {owner}'s, who could not read a key made by somebody else: "
            f"sudo -u {owner} farm keys …"
        )
    return config, Keyring(directory)


def _reached_at(config: Config) -> str:
    """Where other machines reach this one, as far as can be known here."""
    attach = config.attach
    if attach.public_host:
        return attach.public_host
    return socket.gethostname() if attach.host in ("*", "[::]") else attach.host
