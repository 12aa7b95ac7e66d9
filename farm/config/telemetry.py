"""The configuration of traces: the way of holes, for an OpenTelemetry collector."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from farm.config.base import Section


def _endpoint(text: str) -> str:
    """Accept nothing, or http(s)://HOST[:PORT][/PATH]."""
    if not text:
        return text
    try:
        parts = urlsplit(text)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_fine = urlsplit(""), False
    is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and port_is_fine
    if not is_url or parts.query or parts.fragment:
        raise PydanticCustomError("url", "must be http://HOST:PORT, or https://HOST/PATH")
    if "@" in parts.netloc:
        raise PydanticCustomError(
            "url", "must hold no password: give it in OTEL_EXPORTER_OTLP_HEADERS"
        )
    return text


class TelemetryConfig(Section):
    """Traces of holes, told to an OpenTelemetry collector; needs farm[otel]."""

    otlp_endpoint: Annotated[str, AfterValidator(_endpoint)] = Field(
        "",
        description="Where the collector takes OTLP over HTTP, e.g. http://localhost:4318; without"
        " a path, /v1/traces is added. Empty: nothing is told.",
    )
    sample_ratio: float = Field(
        0.1, ge=0, le=1, description="Share of the holes that is told; of dead letters all are."
    )
    max_queued_holes: int = Field(
        2000,
        ge=1,
        le=1_000_000,
        description="Holes that may wait for the collector; beyond it they are dropped and counted"
        " (traces_dropped).",
    )
    export_interval_s: float = Field(
        2.0, gt=0, le=3600, description="Seconds in which holes are gathered, to be told at once."
    )
    export_timeout_s: float = Field(
        5.0, gt=0, le=3600, description="Seconds the collector may take; what it refuses is lost."
    )
