"""User name and password for the MQTT broker, from the configuration or the files it names.

Read when connecting and not when loading, so that a changed secret needs no restart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from farm.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from farm.config.mqtt import BrokerConfig

MAX_SECRET_BYTES = 65_535  # what MQTT allows for either


@dataclass(frozen=True, slots=True)
class Credentials:
    """What to log in with; "" for none."""

    username: str
    password: str = field(repr=False)


def read_credentials(broker: BrokerConfig) -> Credentials:
    """The user name and password to connect with.

    Raises:
        ConfigError: a file of them can't be read.
    """
    username, password = broker.username, broker.password.get_secret_value()
    if broker.username_file is not None:
        username = _first_line(broker.username_file, "mqtt.broker.username_file")
    if broker.password_file is not None:
        password = _first_line(broker.password_file, "mqtt.broker.password_file")
    return Credentials(username, password)


def _first_line(path: Path, key: str) -> str:
    """The first line of a file: editors end files with a newline that is no part of a secret."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_SECRET_BYTES).partition(b"\n")[0].rstrip(b"\r").decode()
    except OSError as error:
        raise ConfigError(f"{key}: {path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{key}: {path} is not UTF-8 text") from None
