"""Brings file, environment and command line together into one checked `Config`.

Owns the precedence (command line, environment, file, default), the record of where each value came
from, and the wording of what is wrong. Every problem found is told at once, never a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from farm.config.base import expand
from farm.config.environment import CONFIG_VARIABLE, read_environment
from farm.config.file import read_file
from farm.config.keys import UNUSED_KEYS, Leaf, join, masked, tree
from farm.config.setting import Reading, Setting
from farm.config.tree import Config
from farm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

DEFAULT = "default"
COMMAND_LINE = "command line"

# Options with a name of their own; any other override is called by its key.
OPTIONS = {
    "mqtt.processing.workers": "--workers",
    "workers.launch": "--launch",
    "mqtt.broker.host": "--host",
    "mqtt.broker.port": "--port",
    "state_dir": "--state-dir",
    "log.level": "--log-level",
    "model": "--model",
}

# What pydantic finds, in words that say what is allowed; the braces take its context.
_WORDS = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must not be empty",
    "string_too_long": "must be at most {max_length} characters",
    "string_type": "must be text",
    "string_unicode": "must be valid UTF-8",
    "path_type": "must be a path",
    "dict_type": "must be a mapping of keys to values",
    "literal_error": "must be one of {expected}",
}
_SHOWN_CHARS = 80  # of a value in a message


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checked configuration, and what to tell about it."""

    config: Config
    origins: Mapping[str, str]  # dotted key -> "command line", "file etc/farm.yaml:12", …
    notes: tuple[str, ...]  # sentences on what is accepted but worth knowing
    path: Path | None = None  # the file that was read, None for none
    # dotted key -> as the file has it; not shown, there may be secrets in it
    written: Mapping[str, Any] = field(default_factory=dict, repr=False)


def load_config(
    path: Path | None, overrides: Mapping[str, Any], environ: Mapping[str, str]
) -> Loaded:
    """The configuration from a file, the environment and the command line.

    Args:
        path: the file; None: the one that FARM_CONFIG names, else none.
        overrides: values of the command line by dotted key; those that are None count as not given.
        environ: the environment, usually `os.environ`.

    Raises:
        ConfigError: with one line for each problem.
    """
    if path is None and environ.get(CONFIG_VARIABLE):
        try:
            path = expand(Path(environ[CONFIG_VARIABLE]))
        except PydanticCustomError as error:
            raise _unusable([f"environment {CONFIG_VARIABLE}: {error}"]) from None
    sources = [
        read_file(path) if path is not None else Reading(),
        read_environment(environ),
        _read_overrides(overrides),
    ]
    settings = {setting.key: setting for source in sources for setting in source.settings}
    problems = [problem for source in sources for problem in source.problems]
    config = _check(settings, problems)
    if config is None or problems:
        raise _unusable(problems)
    origins = {key: settings[key].origin if key in settings else DEFAULT for key in tree().leaves}
    written = {setting.key: setting.value for setting in sources[0].settings}
    return Loaded(config, origins, _notes(config, settings), path, written)


def _read_overrides(overrides: Mapping[str, Any]) -> Reading:
    reading = Reading()
    for key, value in overrides.items():
        blame = OPTIONS.get(key, f"{COMMAND_LINE}: {key}")
        if key not in tree().leaves:
            reading.problems.append(f"{COMMAND_LINE}: unknown key {key}")
        elif value is not None:
            reading.settings.append(Setting(key=key, value=value, origin=COMMAND_LINE, blame=blame))
    return reading


def _check(settings: Mapping[str, Setting], problems: list[str]) -> Config | None:
    """The tree of the settings; None after adding to `problems` what is wrong with them."""
    nested: dict[str, Any] = {}
    for setting in settings.values():
        leaf = tree().leaves[setting.key]
        if leaf.is_number and isinstance(setting.value, bool):  # pydantic would take true for 1
            problems.append(_line(setting, leaf, "must be a number"))
            continue
        *parents, name = setting.key.split(".")
        section = nested
        for parent in parents:
            section = section.setdefault(parent, {})
        section[name] = setting.value
    try:
        return Config.model_validate(nested)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        problems.extend(_problem(detail, settings) for detail in details)
        return None


def _problem(detail: ErrorDetails, settings: Mapping[str, Setting]) -> str:
    """One line on one error of pydantic."""
    context = detail.get("ctx", {})
    wording = _WORDS.get(detail["type"])
    if wording is None:
        message = detail["msg"]
    else:
        words = {name: _choices(value) for name, value in context.items()}
        message = wording.format(**words)
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "across":
        key = join(key, str(context["key"]))
    while key not in tree().leaves and "." in key:  # a place inside free settings
        key = key.rpartition(".")[0]
    leaf = tree().leaves[key]
    return _line(_responsible(key, message, settings), leaf, message)


def _responsible(key: str, message: str, settings: Mapping[str, Setting]) -> Setting:
    """The setting to blame: the key's own, else the one that the message names beside it."""
    if key in settings:
        return settings[key]
    default = tree().leaves[key].default
    words = set(re.findall(r"[\w.]+", message))
    for other in settings.values():
        if other.key in words or other.key.rpartition(".")[2] in words:
            blame = f"{other.blame} (for {key})" if key not in other.blame else other.blame
            return Setting(key=key, value=default, origin=DEFAULT, blame=blame)
    return Setting(key=key, value=default, origin=DEFAULT, blame=f"{DEFAULT}: {key}")


def _line(setting: Setting, leaf: Leaf, message: str) -> str:
    if not message.startswith("must"):
        return f"{setting.blame}: {message}"
    return f"{setting.blame}: {_shown(leaf, setting.value)} is not allowed: {message}"


def _shown(leaf: Leaf, value: Any) -> str:
    """A value as a message may quote it: secrets hidden, long ones cut, text as it was written."""
    value = masked(leaf, value)
    text = value if isinstance(value, str) and value.isprintable() and value else repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"


def _choices(value: Any) -> str:
    """The "'a', 'b' or 'c'" of pydantic as "a, b, c"; everything else as it is."""
    return str(value).replace("'", "").replace(" or ", ", ")


def _notes(config: Config, settings: Mapping[str, Setting]) -> tuple[str, ...]:
    notes = [
        f"{key} ({settings[key].origin}) is of the former system and unused"
        for key in UNUSED_KEYS
        if key in settings
    ]
    model_id = settings.get("mqtt.processing.model_id")
    if config.model and model_id is not None:
        notes.append(f"mqtt.processing.model_id ({model_id.origin}) is unused: model is set")
    if config.mqtt.broker.tls.enabled and config.mqtt.broker.tls.insecure:
        notes.append("mqtt.broker.tls.insecure: the MQTT broker's certificate is not verified")
    return tuple(notes)


def _unusable(problems: list[str]) -> ConfigError:
    told = "\n  ".join(["the configuration is not usable:", *problems])
    # half of a pair, as "\ud800" in a key: a terminal can't be told it
    return ConfigError(told.encode("utf-8", "backslashreplace").decode())
