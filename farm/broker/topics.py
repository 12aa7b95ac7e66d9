"""What a farm subscribes to, and that none of it is its own output.

Owns MQTT's rules of filters (MQTT 5, sections 4.7 and 4.8.2). What an adapter publishes is known
only when it does: the outbox refuses then what would come back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from farm.errors import ConfigError

if TYPE_CHECKING:
    from farm.adapter import Adapter

MAX_FILTERS: Final = 100
MAX_FILTER_BYTES: Final = 65_535  # MQTT 5, section 1.5.4
_SHARE: Final = "$share/"


def matches(topic_filter: str, topic: str) -> bool:
    """Whether an MQTT subscription takes in a topic (MQTT 5, section 4.7)."""
    if topic_filter.startswith(_SHARE):  # section 4.8.2: $share/group/filter
        topic_filter = topic_filter.split("/", 2)[-1]
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for at, level in enumerate(wanted):
        if level == "#":
            return True
        if at >= len(levels) or level not in ("+", levels[at]):
            return False
    return len(wanted) == len(levels)


def check_filters(adapter: Adapter, own_topics: tuple[str, ...]) -> None:
    """Whether an adapter's subscriptions can be such, before anything is started with them.

    Args:
        adapter: of the traffic.
        own_topics: where the farm itself publishes, whatever the adapter does.

    Raises:
        ConfigError: they can't; the sentence says which one, and why.
    """
    filters = tuple(adapter.topic_filters())
    if not 0 < len(filters) <= MAX_FILTERS:
        raise ConfigError(
            f"traffic.adapter subscribes to {len(filters)} filters: from 1 to {MAX_FILTERS} go"
        )
    for each in filters:
        if fault := _fault(each):
            raise ConfigError(f"traffic.adapter subscribes to {each!r:.200}: {fault}")
        for topic in own_topics:
            if matches(each, topic) and adapter.route(topic) is not None:
                raise ConfigError(
                    f"traffic.adapter takes in {topic}, by {each!r:.200}: there the farm publishes "
                    "itself, and would answer its own news. Have its route give None for it"
                )


def _fault(topic_filter: object) -> str:
    """Why this is no topic filter; "" where it is one."""
    if not isinstance(topic_filter, str) or not topic_filter:
        return "a filter is a text"
    if not topic_filter.isprintable():  # among these are lone surrogates, which are no UTF-8
        return "it holds characters that can't be printed"
    if (size := len(topic_filter.encode())) > MAX_FILTER_BYTES:
        return f"it has {size} bytes, at most {MAX_FILTER_BYTES}"
    *above, last = topic_filter.split("/")
    if "#" in "".join(above) or ("#" in last and last != "#"):
        return "# stands for all levels at the end, and alone between slashes"
    if any("+" in level and level != "+" for level in (*above, last)):
        return "+ stands for one level, alone between slashes"
    return ""
