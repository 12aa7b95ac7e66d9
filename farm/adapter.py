"""The `Adapter`: what `farm` must know about one kind of MQTT traffic to join and answer it.

Owns the contract between the general machinery and the traffic. The drilling units' adapter is
`farm.drilling.adapter`; one of your own is named by `traffic.adapter` in the configuration
(docs/your-own.md).
"""

from __future__ import annotations

import importlib
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, runtime_checkable

from farm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farm.config import Config


class Need(Enum):
    """Whether a join can do without a kind of part."""

    REQUIRED = "required"
    OPTIONAL = "optional"


class Route(NamedTuple):
    """Where a topic belongs: the kind of part, and the source whose parts are joined."""

    kind: str
    source: str  # "toolbox/tool" for drilling: answers of one source keep their order


class Status(Enum):
    """How the work on a join ended."""

    OK = "ok"  # the model gave a value
    INSUFFICIENT = "insufficient"  # the model says, in words, why there is no value
    FAILED = "failed"  # it could not be read, paired or computed; `reason` says why


class Finished(NamedTuple):
    """A join at its end, ready to be answered."""

    source: str
    part_id: str
    status: Status
    value: Any  # the model's value when OK, else None
    reason: str  # a sentence when not OK, else ""
    provenance: Mapping[str, Any]  # what `describe` found
    model_version: str
    model_hash: str  # of the worker's model; "" where no worker had the join


class Terminal(Enum):
    """The one visible end of every join."""

    PUBLISHED = "published"  # a value went out
    INSUFFICIENT = "insufficient"  # the model's reason went out
    SKIPPED = "skipped"  # kept back by a policy that the operator chose
    SHED = "shed"  # an error went out, since there were too many holes and the policy said so
    DEAD = "dead"  # an error went out: a dead letter

    __hash__ = object.__hash__  # Enum's own is a Python function, and every hole is counted by it


class Publication(NamedTuple):
    """One message to MQTT."""

    topic: str
    payload: bytes
    retain: bool = False


class Answer(NamedTuple):
    """What to do about a finished join."""

    terminal: Terminal
    publications: tuple[Publication, ...]
    alert: str = ""  # a sentence for the operator, raised now; "" for none
    counts: tuple[str, ...] = ()  # names of counters to raise, e.g. "negative_depths"
    quality: float | None = None  # how sure the model is, 0 to 1, for `farm stats`; None: unknown


class Answerer(Protocol):
    """Turns finished joins into messages. Lives in the broker, keeps its own small state.

    One whose answers depend on earlier ones has an attribute `memory_s`: for how many seconds they
    may. After a restart the joins of that time are answered again, oldest first, and what comes of
    it is thrown away: that restores the state.
    """

    def answer(self, finished: Finished, now_s: float) -> Answer:
        """The messages of a finished join; `now_s` is monotonic."""
        ...

    def reject(self, route: Route, reason: str) -> tuple[Publication, ...]:
        """The error messages for a part that can't be attributed to any join."""
        ...


@runtime_checkable
class Adapter(Protocol):
    """One kind of traffic. Constructed with the whole `Config`, in the broker and each worker.

    It may have a method `viewer()` that gives a `farm.viewer.Viewer`, for the page.
    """

    needs: Mapping[str, Need]
    """The kinds of part of one join, by name."""

    def topic_filters(self) -> tuple[str, ...]:
        """The MQTT topic filters to subscribe to."""
        ...

    def route(self, topic: str) -> Route | None:
        """The kind and source of a topic, or None when it is not ours.

        By the topic alone: it is asked once for each, and the answer is kept.
        """
        ...

    def part_id(self, kind: str, payload: bytes) -> str | None:
        """The id that joins this part with the others of its source, read as cheaply as possible.

        None (optional kinds only) means: bind to the source's next or newest join.

        Raises:
            ReadError: there is no usable id in it.
        """
        ...

    def read(self, parts: Mapping[str, bytes]) -> Any:
        """The model's input from the raw parts, by kind. Runs in the worker.

        Raises:
            ReadError: with a sentence that names the kind and the cause. Nothing else.
        """
        ...

    def describe(self, parts: Mapping[str, bytes]) -> Mapping[str, Any]:
        """What the answer must repeat of the parts, as far as readable. Never raises."""
        ...

    def answerer(self) -> Answerer:
        """A new answerer, for the broker."""
        ...


def load_class(spec: str, key: str) -> type[Any]:
    """The class that ``package.module:Class`` names.

    Args:
        spec: the name as configured.
        key: the configuration key, for the message.

    Raises:
        ConfigError: it can't be imported or found.
    """
    module_name, _, class_name = spec.partition(":")
    if not module_name or not class_name:
        raise ConfigError(f"{key}: {spec!r} is not of the form package.module:Class")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except ImportError as error:
        raise ConfigError(f"{key}: can't import {module_name!r}: {error}") from error
    except AttributeError as error:
        raise ConfigError(f"{key}: {module_name!r} has no class {class_name!r}") from error
    return cast("type[Any]", found)


def load_adapter(config: Config) -> Adapter:
    """The configured adapter, constructed.

    Raises:
        ConfigError: it can't be found, or is no adapter.
    """
    spec = config.traffic.adapter
    adapter = load_class(spec, "traffic.adapter")(config)
    if not isinstance(adapter, Adapter):
        raise ConfigError(f"traffic.adapter: {spec!r} lacks a method of farm.adapter.Adapter")
    return adapter
