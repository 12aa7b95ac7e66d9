"""Reads environment variables into settings.

Owns the names: `FARM_` and the dotted key in capitals with two underscores between levels, a few
short ones, and those of the system that farm replaces. Does not check values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm import failpoints
from farm.config.file import plain_value
from farm.config.keys import Leaf, nearest, tree
from farm.config.setting import Reading, Setting

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "FARM_"
CONFIG_VARIABLE = "FARM_CONFIG"  # the path of the configuration file

# Read by bin/farm and bin/test before any of this runs, and by the failpoints of the tests.
# The invite is that of `farm worker`.
OTHER_VARIABLES = frozenset({"FARM_VENV", "FARM_PYTHON", "FARM_INVITE", failpoints.VARIABLE})

# Short names; the long one of the same key wins over them.
ALIASES = {"FARM_WORKERS": "mqtt.processing.workers"}

# Names of the former system; every FARM_ name wins over them, and empty ones count as unset.
LEGACY = {
    "MQTT_BROKER_HOST": "mqtt.broker.host",
    "MQTT_BROKER_PORT": "mqtt.broker.port",
    "MQTT_BROKER_USERNAME": "mqtt.broker.username",
    "MQTT_BROKER_PASSWORD": "mqtt.broker.password",
    "MODEL_ID": "mqtt.processing.model_id",
    "LOG_LEVEL": "log.level",
}


def variable(key: str) -> str:
    """The environment variable of a dotted key: FARM_MQTT__BROKER__PORT for mqtt.broker.port."""
    return PREFIX + key.upper().replace(".", "__")


def read_environment(environ: Mapping[str, str]) -> Reading:
    """The settings in the environment, the weakest first; unknown FARM_ names are problems."""
    reading = Reading()
    known = {variable(key): key for key in tree().leaves}
    for names in (LEGACY, ALIASES, known):
        for name, key in names.items():
            if name in environ and (environ[name] or names is not LEGACY):
                _take(reading, name, tree().leaves[key], environ[name])
    accepted = {*known, *ALIASES, CONFIG_VARIABLE, *OTHER_VARIABLES}
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in accepted:
            near = nearest(name, accepted)
            hint = f"; did you mean {near}?" if near else ""
            reading.problems.append(f"environment {name}: unknown variable{hint}")
    return reading


def _take(reading: Reading, name: str, leaf: Leaf, text: str) -> None:
    """Add the setting of one variable; an empty one is a value only where text may be empty."""
    value: Any = text
    if not text and not isinstance(leaf.default, str) and not leaf.is_secret:
        return
    if leaf.is_mapping:
        try:
            value = plain_value(text)
        except ValueError as error:
            reading.problems.append(f"environment {name}: {error}")
            return
    where = f"environment {name}"
    reading.settings.append(Setting(key=leaf.name, value=value, origin=where, blame=where))
