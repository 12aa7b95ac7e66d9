"""The options of the commands that run a farm of their own on this machine: demo, bench, chaos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from farm.simulation.mqttd import Engine

if TYPE_CHECKING:
    from collections.abc import Callable

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def workers_option(default: int) -> Decorator:
    """How many workers."""
    return click.option(
        "-w",
        "--workers",
        type=click.IntRange(1),
        default=default,
        show_default=True,
        help="Worker processes.",
    )


engine_option = click.option(
    "--engine",
    type=click.Choice([engine.value for engine in Engine]),
    default=Engine.AUTO.value,
    show_default=True,
    help="MQTT broker program; auto: mosquitto if there is one.",
)


def durable_mqtt_option(more: str = "") -> Decorator:
    """Whether mosquitto loses nothing either; `more` is said behind that."""
    return click.option(
        "--durable-mqtt",
        is_flag=True,
        help=f"mosquitto saves every message{more}; it then carries some 350 messages/s.",
    )


def durability_option(more: str = "") -> Decorator:
    """What the farm's journal survives; `more` is said behind that."""
    return click.option(
        "--durability",
        type=click.Choice(["power", "process", "off"]),
        default="process",
        show_default=True,
        help=f"What the farm's journal survives{more}.",
    )
