"""Logging: constant event names with fields, one line each, on standard output (12-factor).

Text on a terminal, JSON off it, unless configured. `limited` keeps a flood of one event to a line
a period, with the number of those it stands for.
"""

from __future__ import annotations

import logging
import sys
import time
import weakref
from typing import Any

_RICH = "rich"
# structlog imports rich, where there is one, for tracebacks in colour that we never ask it for:
# a twelfth of a second and 4 MB in every process of a farm.
_is_hidden = sys.modules.setdefault(_RICH, None) is None  # type: ignore[arg-type]
import structlog  # noqa: E402 - see above

from farm.printable import printable, printable_data, printable_lines  # noqa: E402

if _is_hidden:
    del sys.modules[_RICH]

_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
LIMIT_PERIOD_S = 10.0


def set_up(*, level: str, style: str, process: str) -> None:
    """Configure logging of this process.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
        style: "text", "json", or "auto" for text on a terminal.
        process: stands in every line, e.g. "broker" or "worker 3".
    """
    as_text = style == "text" or (style == "auto" and sys.stdout.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), pad_event_to=0, sort_keys=False)
        if as_text
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _neutralise,
            _put_first_things_first,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS.get(level, logging.INFO)),
        # one write per line, so that the lines of several processes don't mix
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    global _process, _configured, _level  # noqa: PLW0603 - one per process, like the above
    _process = process
    _configured = _level = level


_process = "farm"
_configured = "INFO"
_level = "INFO"


def follow(level: str) -> None:
    """Log at this level from now on; "" is the configured one."""
    global _level  # noqa: PLW0603 - one level per process, like the name above
    wanted, before = level or _configured, _level
    if wanted == before:
        return
    is_quieter = _LEVELS[wanted] > _LEVELS[before]
    if is_quieter:  # afterwards nobody would hear of it
        get().info("log_level_changed", now=wanted, before=before)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[wanted]))
    _level = wanted
    if not is_quieter:
        get().info("log_level_changed", now=wanted, before=before)


def is_debug() -> bool:
    """Whether lines of single messages and holes are wanted; ask before making one."""
    return _level == "DEBUG"


_FIRST = ("timestamp", "level", "process", "event")


def _put_first_things_first(_logger: Any, _method: str, event: Any) -> dict[str, Any]:
    """When, how bad, who, what: in this order in every line, so that the eye finds them."""
    return {**{key: event[key] for key in _FIRST if key in event}, **event}


_WITH_LINES = ("exception", "stack")  # of ours; what stands in a line of them may be a stranger's


def _neutralise(_logger: Any, _method: str, event: Any) -> dict[str, Any]:
    """What strangers write into a field must not colour a terminal or begin a line of its own."""
    return {
        key: printable_lines(value, indent="  ")
        if key in _WITH_LINES and isinstance(value, str)
        else printable(value)
        if isinstance(value, str)
        else printable_data(_as_data(value))
        for key, value in event.items()
    }


def _as_data(value: Any) -> Any:
    """What a renderer would show of it: of what is no plain data, its repr."""
    if value is None or isinstance(value, bool | int | float | dict | list | tuple):
        return value
    return repr(value)


def get() -> Any:
    """The logger of this process; call as ``log.get().info("event_name", field=value)``."""
    return structlog.get_logger(process=_process)


_all_limited: weakref.WeakSet[Limited] = weakref.WeakSet()


def flush_limited() -> None:
    """Say how many lines each `Limited` has held back. Call now and then, and at the end."""
    for limited in list(_all_limited):
        limited.flush()


class Limited:
    """Logs the first of each event and then at most one line a period, with the count."""

    def __init__(self) -> None:
        self._last_s: dict[str, float] = {}
        self._held: dict[str, int] = {}
        self._fields: dict[str, dict[str, Any]] = {}  # of the last one held back
        _all_limited.add(self)

    def warning(self, event: str, **fields: Any) -> None:
        """Like ``log.get().warning``, limited by event name."""
        now_s = time.monotonic()
        if now_s - self._last_s.get(event, -LIMIT_PERIOD_S) < LIMIT_PERIOD_S:
            self._held[event] = self._held.get(event, 0) + 1
            self._fields[event] = fields
            return
        self._last_s[event] = now_s
        if held := self._held.pop(event, 0):
            fields["lines_held_back"] = held
        get().warning(event, **fields)

    def flush(self) -> None:
        """One line for each event that was held back, with the count and the last one's fields."""
        for event, held in self._held.items():
            get().warning(event, **self._fields[event], lines_held_back=held)
        self._held.clear()
        self._fields.clear()
