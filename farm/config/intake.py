"""The configuration of what comes in: which traffic, how it is joined, how much of it is let in."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from farm.config.base import AnyCase, Section, class_name


class TrafficConfig(Section):
    """What kind of messages is read."""

    adapter: Annotated[str, AfterValidator(class_name)] = Field(
        "farm.drilling.adapter:OpcUaAdapter",
        description="The class that reads them, as package.module:Class (docs/your-own.md).",
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="Settings of an adapter of your own, as it likes them."
    )


class CorrelationConfig(Section):
    """How parts are joined, beyond what `mqtt.listener` says."""

    optional_parts: Annotated[Literal["auto", "always", "never"], AnyCase] = Field(
        "auto",
        description="Whether a join waits for optional parts such as Heads; auto: only where the"
        " site has been seen to send them.",
    )
    optional_wait_s: float = Field(
        0.5,
        ge=0,
        le=3600,
        description="Seconds a complete join waits for them; gateways send within 0.1 s.",
    )
    max_parts_per_source: int = Field(
        500,
        ge=2,
        le=1_000_000,
        description="Messages of one tool that may wait, so that one can't crowd out the rest.",
    )


class LimitsConfig(Section):
    """What one message may be; what is beyond is refused with a published error."""

    message_bytes: int = Field(
        4_000_000,
        ge=1000,
        le=64_000_000,  # what one frame to a worker may have
        description="Bytes of a message; the largest real one is 0.3 MB.",
    )
    samples: int = Field(
        100_000, ge=1, le=10_000_000, description="Samples of a trace; the longest real is 11466."
    )
    id_chars: int = Field(
        128, ge=1, le=1024, description="Characters of a result, machine or head id."
    )


class IntakeConfig(Section):
    """Messages received and not yet looked at; when full, acknowledgements are withheld."""

    max_queued_messages: int = Field(5000, ge=1, le=10_000_000, description="In messages.")
    max_queued_bytes: int = Field(256_000_000, ge=1000, description="In bytes.")


class OverloadConfig(Section):
    """What happens while more holes arrive than the workers can do, in this order."""

    memory_bytes: int = Field(
        64_000_000,
        ge=1000,
        description="Bytes of messages held in memory; beyond it they wait on disk (without a"
        " journal: intake waits).",
    )
    objective_s: float = Field(
        1.0,
        gt=0,
        le=3600,
        description="Seconds in which a hole should reach a worker. One that waits longer lets"
        " fresh ones pass; an answer waits half as long for such ones of its own tool.",
    )
    late_share: int = Field(
        4,
        ge=2,
        le=1000,
        description="Of so many jobs sent while both wait, one is a late one.",
    )
    max_open_jobs: int = Field(
        20_000,
        ge=1,
        le=10_000_000,
        description="Holes accepted and unfinished; then intake waits, and MQTT holds the rest.",
    )
    max_open_bytes: int = Field(
        2_000_000_000, ge=1000, description="Bytes of those on disk; then intake waits."
    )
    shed: Annotated[Literal["never", "oldest", "newest"], AnyCase] = Field(
        "never",
        description="Which waiting holes are answered with an error, when intake has waited for"
        " shed_after_s without a pause.",
    )
    shed_after_s: float = Field(
        30.0, ge=0, le=86_400, description="Seconds of waiting intake before holes are shed."
    )
