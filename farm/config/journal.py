"""The configuration of the journal: what is kept on disk, and for how long."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from farm.config.base import AnyCase, Section, refuse


class JournalConfig(Section):
    """What is written to disk before it is acknowledged or published, and for how long it stays."""

    durability: Annotated[Literal["power", "process", "off"], AnyCase] = Field(
        "process",
        description="What no accepted hole is lost by: a power cut, the end of any process, or"
        " (off) nothing but a worker's.",
    )
    commit_records: int = Field(
        500, ge=1, le=100_000, description="Records that are written together at most."
    )
    commit_bytes: int = Field(
        8_000_000, ge=1000, description="Bytes that are written together at most."
    )
    commit_interval_s: float = Field(
        0.005,
        ge=0,
        le=1,
        description="Seconds a received message may wait for company before it is written;"
        " an answer waits for none.",
    )
    segment_bytes: int = Field(
        64_000_000, ge=1_000_000, description="Bytes of one file of messages, then the next begins."
    )
    keep_s: float = Field(
        86_400.0, ge=0, description="Seconds for which the records of ended holes stay."
    )
    keep_bytes: int = Field(
        4_000_000_000,
        ge=2_000_000,
        description="Bytes of messages on disk; beyond it the oldest of ended holes go early.",
    )
    keep_dead_s: float = Field(
        2_592_000.0, ge=0, description="Seconds for which dead letters stay; 30 days."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.keep_bytes < 2 * self.segment_bytes:
            raise refuse(
                "keep_bytes", f"must be at least twice segment_bytes ({self.segment_bytes})"
            )
        return self
