"""The configuration of several farms that share the tools of one site (docs/partitions.md)."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from farm.config.base import Section, one_level, refuse

MAX_PARTITIONS = 256


class PartitionConfig(Section):
    """This farm as one of several, each with a share of the tools, a journal and a session."""

    group: Annotated[str, AfterValidator(one_level)] = Field(
        "",
        max_length=64,
        description="Name that the partitions of a site have in common; empty: this farm is alone.",
    )
    count: int = Field(
        1,
        ge=1,
        le=MAX_PARTITIONS,
        description="How many partitions share the tools. What is in force is kept in the journal:"
        " `farm partition add` changes it.",
    )
    index: int = Field(
        0,
        ge=0,
        lt=MAX_PARTITIONS,
        description="Which of them this one is, from 0. Status topics and client id end with it.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.index >= self.count:
            raise refuse("index", f"must be below partition.count ({self.count}): it counts from 0")
        if self.count > 1 and not self.group:
            raise refuse("group", "must be given where there are several partitions")
        return self

    def named(self, name: str) -> str:
        """A name of the farm's, told apart from those of the other partitions."""
        return f"{name}-{self.index}" if self.group else name
