"""The configuration of the way to the workers and back: the sockets, and the life of a job."""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from farm.config.base import Section, refuse
from farm.config.gpus import GPU_BATCH_JOBS
from farm.slot import MAX_GATHERED_JOBS, MAX_JOBS

MAX_SOCKET_PATH_BYTES = 107  # sun_path of Linux is 108 bytes with its closing NUL


def _is_loopback(host: str) -> bool:
    """Whether `host` is an IPv4 loopback address; names would depend on what resolves them."""
    try:
        return IPv4Address(host).is_loopback
    except ValueError:
        return False


def _endpoint(text: str) -> str:
    """Accept nothing, an ipc path, or tcp on loopback (the sockets know no authentication yet)."""
    if not text:
        return text
    shape = "must be ipc:///PATH or tcp://127.0.0.1:PORT"
    if text.startswith("ipc://"):
        path = text.removeprefix("ipc://")
        if not Path(path).is_absolute():
            raise PydanticCustomError("endpoint", shape)
        if len(path.encode()) > MAX_SOCKET_PATH_BYTES:
            raise PydanticCustomError("endpoint", f"must be at most {MAX_SOCKET_PATH_BYTES} bytes")
        return text
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise PydanticCustomError("endpoint", shape) from None
    if parts.scheme != "tcp" or not port or parts.path or parts.query or "@" in text:
        raise PydanticCustomError("endpoint", shape)
    if not _is_loopback(host):
        raise PydanticCustomError(
            "endpoint", "must be on loopback (127.0.0.1): these sockets are not authenticated"
        )
    return text


Endpoint = Annotated[str, AfterValidator(_endpoint)]


class DispatchConfig(Section):
    """The sockets between the broker process and its workers, and the life of a job."""

    jobs_endpoint: Endpoint = Field(
        "",
        description="PUSH socket of jobs; empty: in the state directory, else"
        " tcp://127.0.0.1:PORT.",
    )
    results_endpoint: Endpoint = Field("", description="PULL socket of results, likewise.")
    control_endpoint: Endpoint = Field(
        "", description="ROUTER that answers workers and commands, likewise."
    )
    job_timeout_s: float = Field(
        10.0,
        gt=0,
        le=86_400,
        description="Seconds a worker may compute one job at most; then it is killed and the job"
        " goes to another. A hole takes about 0.01.",
    )
    job_timeout_factor: float = Field(
        50.0,
        ge=2,
        le=10_000,
        description="Once enough jobs were measured: the time that all but one in a hundred take,"
        " times this, is the limit, where it is below job_timeout_s.",
    )
    job_timeout_floor_s: float = Field(
        2.0,
        gt=0,
        le=86_400,
        description="Least such limit in seconds; a busy machine makes any job late.",
    )
    claim_timeout_s: float = Field(
        0.25,
        gt=0,
        le=3600,
        description="Seconds in which a worker must claim what it was sent; then it is sent again."
        " Readers claim in milliseconds; a stopped worker holds back others for this long.",
    )
    batch_jobs: int = Field(
        16,
        ge=1,
        le=MAX_JOBS,
        description="Most jobs of one message to a worker. With a backlog each worker gets its"
        " share of it; without one every job travels alone.",
    )
    batch_bytes: int = Field(
        2_000_000, ge=1, description="Most bytes of one such message; a single job may have more."
    )
    gpu_batch_jobs: int = Field(
        GPU_BATCH_JOBS,
        ge=1,
        le=MAX_GATHERED_JOBS,
        description="Most jobs that a worker with a GPU computes as one batch, gathered from"
        " several messages; it holds the next batch meanwhile (docs/gpu.md).",
    )
    max_attempts: int = Field(
        3, ge=1, le=100, description="Workers a job may cost before it is answered with an error."
    )
    breaker_kills: int = Field(
        5,
        ge=2,
        le=1000,
        description="Different jobs that kill workers within breaker_window_s, more than come"
        " home, before the model is suspected instead of them and dispatch pauses.",
    )
    breaker_window_s: float = Field(
        60.0, gt=0, le=86_400, description="Seconds in which such kills are counted."
    )
    breaker_pause_s: float = Field(
        10.0,
        gt=0,
        le=3600,
        description="Seconds until one job is tried again; doubles up to ten times this.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        endpoints = [
            e for e in (self.jobs_endpoint, self.results_endpoint, self.control_endpoint) if e
        ]
        if len(set(endpoints)) != len(endpoints):
            raise refuse("results_endpoint", "the three endpoints must differ")
        if self.claim_timeout_s > self.job_timeout_s:
            raise refuse("claim_timeout_s", f"must be at most job_timeout_s ({self.job_timeout_s})")
        return self
