"""The configuration of what a farm tells of itself: its log, its pace, its dead letters."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from farm.config.base import AnyCase, Section

_LEVEL_NAMES = {"WARN": "WARNING", "CRITICAL": "ERROR", "FATAL": "ERROR"}  # common other words


def _level_name(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return _LEVEL_NAMES.get(value.upper(), value.upper())


class LogConfig(Section):
    """What is logged."""

    level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_level_name)] = (
        Field("INFO", description="The least that is logged; INFO has no line by message.")
    )
    format: Annotated[Literal["auto", "text", "json"], AnyCase] = Field(
        "auto", description="Form of the lines; auto: text on a terminal, JSON elsewhere."
    )


class ThroughputConfig(Section):
    """When the farm counts as keeping up, and how often it says so."""

    healthy_ratio: float = Field(
        0.95, gt=0, le=1, description="Holes answered per hole arrived at which it is HEALTHY."
    )
    window_s: float = Field(
        30.0, ge=1, le=3600, description="Seconds over which the rates are taken."
    )
    status_interval_s: float = Field(
        30.0, gt=0, le=3600, description="Seconds between status lines in the log."
    )


class DeadLettersConfig(Section):
    """Where holes that ended without an answer of the model are told, beside their own topics."""

    publish: bool = Field(
        True,
        description="Publish each on farm/<instance>/dead, and their number on"
        " farm/<instance>/dead/count (retained).",
    )
