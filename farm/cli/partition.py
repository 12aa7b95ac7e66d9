"""`farm partition`: have more farms share the tools of a site, while holes arrive."""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Any

import click

from farm.cli.group import Group
from farm.cli.options import config_option, load
from farm.errors import ConfigError, FarmError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from farm.broker.roll_call import RollCall
    from farm.config import Config
    from farm.simulation.mqtt import BrokerAddress

LISTEN_S = 5.0  # at first; two marks of each that lives
LISTEN_MOST_S = 15.0  # where one seems to be missing: a busy machine is late with its marks
VOW_TIMEOUT_S = 30.0
CUT_TIMEOUT_S = 60.0


@click.group(cls=Group)
def command() -> None:
    """Have several farms share the tools of a site (docs/partitions.md).

    \b
    Example:
      farm partition add --config etc/farm.yaml
    """


@command.command()
@config_option
def add(config_path: Path | None) -> None:
    """Give the partitions that were started in addition their share of the tools.

    Start them first, each with a state directory and a partition.index of its own and the new
    partition.count; they wait. Then this command makes the cut, while holes arrive: each is
    answered once. Needs the MQTT broker and partition.group of the configuration; it may run
    anywhere. The MQTT broker must be one process, such as mosquitto: a cluster has no order that
    all sessions share.

    \b
    Example:
      farm partition add --config etc/farm.yaml
    """
    from farm.broker.group import said_prefix, stream_topic  # noqa: PLC0415 - not for --help
    from farm.broker.roll_call import RollCall  # noqa: PLC0415
    from farm.simulation.mqtt import MqttLink  # noqa: PLC0415

    config = load(config_path).config
    group = config.partition.group
    if not group:
        raise ConfigError("partition.group is empty: give the one that the partitions have")
    call = RollCall(f"{said_prefix(group)}mark/")
    link = MqttLink(
        _address(config), name="farm-partition", filters=(f"{call.prefix}+",), on_message=call.heard
    )
    link.connect()
    try:

        def tell(what: str, cut_id: str, **more: int) -> None:
            body = {"do": what, "id": cut_id, **more}
            link.publish(stream_topic(group), json.dumps(body).encode())
            if link.drain(VOW_TIMEOUT_S).open:
                raise FarmError("the MQTT broker does not confirm what is sent: look at its log")

        make_cut(call, tell)
    finally:
        link.close()


def make_cut(call: RollCall, tell: Callable[..., None]) -> None:
    """Find out who is there, prepare, cut, and wait until it is in force.

    Args:
        call: hears the partitions' marks.
        tell: publishes what to do, into the stream of each partition.

    Raises:
        FarmError: it can't be made, and says what to do; all goes on as before.
    """
    click.echo(f"listening for {LISTEN_S:.0f} s …")
    time.sleep(LISTEN_S)
    before, after = _plan(call, LISTEN_MOST_S - LISTEN_S)
    click.echo(f"{before} in force, {after - before} in addition: prepare")
    cut_id = secrets.token_hex(8)
    started_s = time.monotonic()
    tell("prepare", cut_id, **{"from": before, "to": after})
    is_ready = call.wait(lambda m: m["prepared"] == cut_id, after, VOW_TIMEOUT_S)
    if not is_ready:
        missing = call.without(lambda m: m["prepared"] == cut_id, after)
        tell("give up", cut_id)
        raise FarmError(
            f"partition {missing} is not ready after {VOW_TIMEOUT_S:.0f} s: nothing was changed; "
            "look at its `farm stats` (a long backlog? a pause?) and try again"
        )
    click.echo(f"ready after {time.monotonic() - started_s:.1f} s: cut")
    started_s = time.monotonic()
    tell("cut", cut_id)

    def is_behind(mark: dict[str, Any]) -> bool:
        return bool(mark["cut"] == cut_id and mark["phase"] == "in force")

    if not call.wait(is_behind, after, CUT_TIMEOUT_S):
        raise FarmError(
            f"the cut is made, and partition {call.without(is_behind, after)} has not passed it: "
            "what is its own waits at the MQTT broker until it has; start it, or look at its "
            "`farm stats`"
        )
    click.echo(
        f"{after} in force after {time.monotonic() - started_s:.1f} s; write partition.count: "
        f"{after} into the configuration of each"
    )


def _plan(call: RollCall, patience_s: float) -> tuple[int, int]:
    """How many are in force, and how many there will be.

    Raises:
        FarmError: it can't be done, and has not become possible in `patience_s`.
    """
    deadline_s = time.monotonic() + patience_s
    while True:
        try:
            return call.plan()
        except FarmError:
            if time.monotonic() > deadline_s:
                raise
        time.sleep(1.0)


def _address(config: Config) -> BrokerAddress:
    from farm.config.credentials import read_credentials  # noqa: PLC0415 - not for --help
    from farm.simulation.mqtt import BrokerAddress  # noqa: PLC0415

    broker = config.mqtt.broker
    if broker.tls.enabled and (broker.tls.ca_file is None or broker.tls.cert_file is not None):
        raise ConfigError(
            "mqtt.broker.tls: this command can do TLS with a ca_file and without a certificate of "
            "its own: let it connect to a plain listener of the MQTT broker"
        )
    login = read_credentials(broker)
    ca_file = broker.tls.ca_file if broker.tls.enabled else None
    return BrokerAddress(
        broker.host, broker.port, login.username, login.password, ca_file, broker.protocol
    )
