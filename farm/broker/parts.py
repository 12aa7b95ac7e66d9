"""The `Parts` of a broker process: what lives as long as it does, made in the order of their needs.

They decide nothing here; who works with them is `farm.broker.process`, `traffic` (what comes and
goes over MQTT), `upkeep` (what is due from time to time) and `report` (what is told of it all).
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from farm.adapter import load_adapter
from farm.broker.doors import Doors
from farm.broker.flow import Flow
from farm.broker.group import Group
from farm.broker.intake import Intake, IntakeClock
from farm.broker.mqtt import MqttLink, Private
from farm.broker.slots import Slots
from farm.broker.topics import check_filters
from farm.clock import WallClock
from farm.doors.keyring import DIRECTORY_NAME
from farm.doors.rates import Rates
from farm.doors.tickets import load_tickets
from farm.journal.journal import Journal, NoJournal
from farm.telemetry.otlp import OtlpExporter, spans_to
from farm.waker import Waker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from farm.adapter import Adapter, Publication
    from farm.broker.packets import Publish
    from farm.config import Config


@dataclass(frozen=True, slots=True)
class Parts:
    """See the module."""

    config: Config
    instance: str
    started_s: float  # monotonic
    waker: Waker
    intake: Intake
    clock: IntakeClock
    wall: WallClock
    slots: Slots
    journal: Journal | NoJournal
    group: Group | None  # this farm's place among others; None where it is alone
    said: deque[Publish]  # by partitions of our group, this one among them
    link: MqttLink
    flow: Flow
    doors: Doors | None  # to other machines
    rates: Rates
    otlp: OtlpExporter | None  # who carries traces to a collector, where that is wanted

    @classmethod
    def of(cls, config: Config, *, state_dir: Path, client_id: str, instance: str) -> Self:
        """All of them, not started.

        Raises:
            ConfigError: the adapter is not there, or can't be used.
            StateError: another process holds the journal.
            JournalError: it is damaged, or of another version.
        """
        adapter = load_adapter(config)
        news = (f"farm/{instance}/{tail}" for tail in ("status", "dead", "dead/count"))
        check_filters(adapter, tuple(news))
        waker = Waker()
        intake = Intake(
            max_messages=config.intake.max_queued_messages,
            max_bytes=config.intake.max_queued_bytes,
        )
        wall = WallClock()
        slots = Slots(state_dir)
        journal = _make_journal(config, state_dir, wall=wall, waker=waker)
        started_s = time.monotonic()
        said: deque[Publish] = deque()

        def say(publication: Publication) -> None:
            link.exchange.say(publication)  # made behind the group, which it is told of

        group = _make_group(config, started_s, wall=wall, journal=journal, say=say)
        link = _make_link(
            config,
            adapter,
            client_id=client_id,
            instance=instance,
            intake=intake,
            waker=waker,
            group=group,
            said=said,
        )
        has_doors = bool(config.attach.listen)
        flow = Flow(
            config,
            adapter,
            started_s,
            journal=journal,
            clock=wall,
            instance=instance,
            read_slot=slots.read,
            tickets=load_tickets(state_dir / DIRECTORY_NAME) if has_doors else None,
            share=group.share if group else None,
        )
        telling = spans_to(config.telemetry, instance=instance, counts=flow.counts, at=wall.at)
        if telling is not None:
            flow.tell_spans(telling[0])
        return cls(
            config=config,
            instance=instance,
            started_s=started_s,
            waker=waker,
            intake=intake,
            clock=IntakeClock(),
            wall=wall,
            slots=slots,
            journal=journal,
            group=group,
            said=said,
            link=link,
            flow=flow,
            doors=Doors(config.attach, state_dir, flow.counts) if has_doors else None,
            rates=Rates(config.attach, flow.counts),
            otlp=telling[1] if telling else None,
        )


def _make_journal(
    config: Config, state_dir: Path, *, wall: WallClock, waker: Waker
) -> Journal | NoJournal:
    if config.journal.durability == "off":
        return NoJournal()
    return Journal(config.journal, state_dir, utc=wall.utc, wake=waker.wake)


def _make_group(
    config: Config,
    started_s: float,
    *,
    wall: WallClock,
    journal: Journal | NoJournal,
    say: Callable[[Publication], None],
) -> Group | None:
    if not config.partition.group:
        return None
    return Group(config.partition, started_s, utc_s=wall.utc(), record=journal.append, say=say)


def _make_link(
    config: Config,
    adapter: Adapter,
    *,
    client_id: str,
    instance: str,
    intake: Intake,
    waker: Waker,
    group: Group | None,
    said: deque[Publish],
) -> MqttLink:
    filters = adapter.topic_filters()
    return MqttLink(
        config.mqtt.broker,
        client_id=client_id,
        filters=(*filters, group.stream) if group else filters,
        status_topic=f"farm/{instance}/status",
        intake=intake,
        wake=waker.wake,
        max_payload_bytes=config.limits.message_bytes,
        private=Private(group.prefix, said.append) if group else None,
    )
