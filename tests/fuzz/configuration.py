"""Fuzzes the reading of the configuration: a file's text, and the environment.

An input is the text of the file and, each behind a NUL, variables as NAME=VALUE.
"""

from __future__ import annotations

import io
import json
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from farm import wire
from farm.config import Config, Loaded, load_config
from farm.config.environment import CONFIG_VARIABLE
from farm.config.keys import HIDDEN, UNUSED_KEYS, tree
from farm.config.show import model_view, shown, value_of, worker_view
from farm.errors import ConfigError

from . import must

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Not yaml, which makes a run several times slower: the kept corpus was grown with it, too.
INSTRUMENTED = ("farm.config",)
MAX_BYTES = 2048
# In every input the password: it must never be told, whatever else is wrong.
CANARY = "Kanarienvogel-7c1e"
MAX_ERROR_CHARS = 100_000
WORDS = (
    b"\x00",
    b"&a ",
    b"*a",
    b"<<: ",
    b"!!int ",
    b"!!float ",
    b"!!bool ",
    b"!!python/object:os.system ",
    b"0b_",
    b"0x_",
    b"1:60",
    b".nan",
    b"%YAML 1.1\n---\n",
    b"%TAG ! tag:yaml.org,2002:\n---\n",
    b'"\\U00110000"',
    b'"\\ud800"',
    b"? ",
    b"|\n  ",
    b"\xef\xbb\xbf",
    *(name.rpartition(".")[2].encode() + b": " for name in tree().leaves),
    *(name.rpartition(".")[2].encode() + b":\n  " for name in tree().sections if name),
)


_ENVIRONMENT = {"MQTT_BROKER_PASSWORD": CANARY}
_NOTHING_SET = load_config(None, {}, _ENVIRONMENT).config


class TextFile:
    """Stands for the path of a file of these bytes: a real one would cost most of the time."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def open(self, mode: str) -> io.BytesIO:
        must(mode == "rb", "the file is read otherwise now")
        return io.BytesIO(self._data)

    def __str__(self) -> str:
        return "farm.yaml"


def check(data: bytes) -> None:
    """See `Harness`."""
    text, *variables = data.split(b"\0")
    environ = _ENVIRONMENT | dict(map(_variable, variables))
    environ.pop(CONFIG_VARIABLE, None)  # would have another file read
    loaded = _load(text, environ)
    if loaded is None:
        return
    if loaded.config == _NOTHING_SET:
        return
    must(CANARY not in repr(loaded), "the password is told")
    _check_views(loaded.config)
    _check_shown(loaded)


def _variable(text: bytes) -> tuple[str, str]:
    name, _, value = text.decode("utf-8", "surrogateescape").partition("=")  # as Python reads them
    return name, value


def _load(text: bytes, environ: dict[str, str]) -> Loaded | None:
    try:
        return load_config(cast("Path", TextFile(text)), {}, environ)
    except ConfigError as error:
        told = str(error)
    must(CANARY not in told, "the password is told")
    must(len(told) <= MAX_ERROR_CHARS, f"an error of {len(told)} characters")
    told.encode("utf-8", "surrogateescape")
    must(told.count("\n") > 0, "no problem is named")
    return None


def _check_views(config: Config) -> None:
    """What goes to workers as JSON makes the same configuration there."""
    view = worker_view(config)
    carried = json.loads(json.dumps(view))
    again = worker_view(Config.model_validate(carried))
    must(_text(again) == _text(view), "a worker reads another configuration")
    model_view(config)
    wire.encode(wire.Load(view, "ipc:///x"))


def _text(view: Any) -> str:
    return json.dumps(view, sort_keys=True)  # NaN, which is not equal to itself, is here


def _check_shown(loaded: Loaded) -> None:
    """What is shown is a configuration file that means the same, but for what is hidden."""
    text = shown(loaded, only_changed=True)  # the whole one takes forty times as long to read
    must(CANARY not in text, "the password is shown")
    if text.count(HIDDEN) > 1:  # more than the password: then it does not mean the same
        return
    again = _load(text.encode("utf-8"), {})
    must(again is not None, "what is shown can't be read")
    assert again is not None
    for key, leaf in tree().leaves.items():
        if not leaf.is_secret and key not in UNUSED_KEYS:
            before, after = value_of(loaded.config, key), value_of(again.config, key)
            must(
                before == after or repr(before) == repr(after),
                f"{key} is {before!r:.100}, and read again {after!r:.100}",
            )


def seeds() -> Iterable[bytes]:
    """Each section with its defaults, and some of what goes wrong."""
    for section in tree().sections:
        lines = []
        parents = section.split(".") if section else []
        for depth, name in enumerate(parents):
            lines.append("  " * depth + name + ":")
        indent = "  " * len(parents)
        for name in tree().children(section):
            leaf = tree().leaves.get(f"{section}.{name}" if section else name)
            if leaf is not None:
                lines.append(f"{indent}{name}: {json.dumps(_plain(leaf.default))}")
        yield "\n".join(lines).encode()
    yield b"mqtt:\n  broker: {host: a, port: 1e3}\n  listener: &a {root: x}\n"
    yield b"model_settings: {a: &a [1, 2], b: *a, <<: {c: 0x1f}}\n"
    yield b"mqtt: {broker: {hots: x, port: 99999}}\nmqtt: 1\n"
    yield b"log: {level: debug}\0FARM_WORKERS=3\0MODEL_ID=2\0LOG_LEVEL=WARN\0FARM_LOGG=1"
    yield b"\0FARM_MODEL_SETTINGS={a: [1, 2.5, null, !!int 3]}\0FARM_MQTT__BROKER__PORT=x"
    yield b"\xef\xbb\xbf# nothing\n---\n"


def _plain(value: Any) -> Any:
    if isinstance(value, PurePosixPath):
        return str(value)
    return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)
