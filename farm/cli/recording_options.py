"""What the commands around recordings share: which messages, and how moments are typed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from farm.recording.faults import Faults
    from farm.recording.selection import Selection

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

MOST_SPEED = 1e6
TOOL_HELP = "Only this tool; * and ? stand for any; may be given several times."


class Moment(click.ParamType):  # type: ignore[type-arg] # generic in newer versions alone
    """A moment on the command line, as nanoseconds since 1970."""

    name = "moment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """See `farm.recording.moments.moment_ns`."""
        from farm.recording.moments import moment_ns  # noqa: PLC0415 - not for --help

        if not isinstance(value, str):
            return value  # type: ignore[no-any-return] # click converts twice at times
        try:
            return moment_ns(value, now_ns=time.time_ns())
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Duration(click.ParamType):  # type: ignore[type-arg] # generic in newer versions alone
    """A duration on the command line, in seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        """See `farm.recording.moments.duration_s`."""
        from farm.recording.moments import duration_s  # noqa: PLC0415 - not for --help

        if not isinstance(value, str):
            return value  # type: ignore[no-any-return] # click converts twice at times
        try:
            return duration_s(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Speed(click.ParamType):  # type: ignore[type-arg] # generic in newer versions alone
    """How many times faster than recorded; 0 for max."""

    name = "speed"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        """A number above 0, or the word max."""
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return] # click converts twice at times
        if value.strip() == "max":
            return 0.0
        try:
            speed = float(value.strip().removesuffix("x"))
        except ValueError:
            speed = -1.0
        if not 0 < speed <= MOST_SPEED:
            self.fail(
                f"{value!r} is no speed: write 1, 0.5, 20 or max (at most {MOST_SPEED:g})",
                param,
                ctx,
            )
        return speed


class FaultList(click.ParamType):  # type: ignore[type-arg] # generic in newer versions alone
    """What goes wrong on purpose."""

    name = "faults"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Faults | None:
        """See `farm.recording.faults.parse_faults`."""
        from farm.recording.faults import parse_faults  # noqa: PLC0415 - not for --help

        if not isinstance(value, str):
            return value  # type: ignore[no-any-return] # click converts twice at times
        try:
            return parse_faults(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


tool_option = click.option("--tool", "tool_patterns", metavar="GLOB", multiple=True, help=TOOL_HELP)
since_option = click.option(
    "--since",
    "since_ns",
    metavar="WHEN",
    type=Moment(),
    help="Only what arrived from then on: 2026-03-01T08:00, or 2h for two hours ago.",
)
until_option = click.option(
    "--until", "until_ns", metavar="WHEN", type=Moment(), help="Only what arrived before."
)


def selection(
    tool_patterns: tuple[str, ...], since_ns: int | None, until_ns: int | None
) -> Selection:
    """What the three options choose."""
    from farm.recording.record import MAX_TIME_NS  # noqa: PLC0415 - msgpack, not for --help
    from farm.recording.selection import Selection  # noqa: PLC0415

    if since_ns is not None and until_ns is not None and until_ns <= since_ns:
        raise click.UsageError("--until lies before --since: nothing can be chosen")
    until = MAX_TIME_NS if until_ns is None else min(until_ns, MAX_TIME_NS)
    return Selection(tool_patterns, since_ns or 0, until)
