"""The `Selection`: which messages are wanted, by tool and by time. A decision without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from farm.recording.record import MAX_TIME_NS


@dataclass(frozen=True, slots=True)
class Selection:
    """See the module.

    Attributes:
        tools: patterns with * ? [], for "toolbox/tool" or for the tool alone; none: all tools.
        since_ns: of arrival, UTC in nanoseconds; from this moment on.
        until_ns: up to this moment, without it.
    """

    tools: tuple[str, ...] = ()
    since_ns: int = 0
    until_ns: int = MAX_TIME_NS

    def has_tool(self, source: str) -> bool:
        """Whether this tool's messages are wanted."""
        if not self.tools:
            return True
        tool = source.rpartition("/")[2]
        return any(fnmatchcase(source, each) or fnmatchcase(tool, each) for each in self.tools)

    def has_time(self, at_ns: int) -> bool:
        """Whether what arrived then is wanted."""
        return self.since_ns <= at_ns < self.until_ns

    def has_span(self, from_ns: int, to_ns: int) -> bool:
        """Whether some of this time is wanted."""
        return from_ns < self.until_ns and self.since_ns <= max(from_ns, to_ns)
