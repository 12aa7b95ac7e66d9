"""The whole configuration as one frozen typed tree: every key, its unit, default and bounds.

Owns farm's own keys and the root; `mqtt:` is in `farm.config.mqtt`. Reads no file and no
environment (`farm.config.load` does). etc/farm.yaml repeats it for people, held equal by a test.
"""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from farm.config.attach import AttachConfig
from farm.config.base import AnyCase, FilePath, Section, one_level, refuse
from farm.config.metrics import MetricsConfig
from farm.config.mqtt import MqttConfig
from farm.config.partition import PartitionConfig
from farm.config.ray import RayConfig
from farm.slot import MAX_JOBS

MAX_SOCKET_PATH_BYTES = 107  # sun_path of Linux is 108 bytes with its closing NUL
_LEVEL_NAMES = {"WARN": "WARNING", "CRITICAL": "ERROR", "FATAL": "ERROR"}  # common other words


def _level_name(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return _LEVEL_NAMES.get(value.upper(), value.upper())


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


def _class_name(text: str) -> str:
    module, _, name = text.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise PydanticCustomError("class", "must be of the form package.module:Class")
    return text


def _model_name(text: str) -> str:
    if text in ("", "rule"):
        return text
    try:
        return _class_name(text)
    except PydanticCustomError:
        raise PydanticCustomError(
            "model", "must be empty (built-in), rule, or of the form package.module:Class"
        ) from None


Endpoint = Annotated[str, AfterValidator(_endpoint)]


class LogConfig(Section):
    """What is logged."""

    level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_level_name)] = (
        Field("INFO", description="The least that is logged; INFO has no line by message.")
    )
    format: Annotated[Literal["auto", "text", "json"], AnyCase] = Field(
        "auto", description="Form of the lines; auto: text on a terminal, JSON elsewhere."
    )


class TrafficConfig(Section):
    """What kind of messages is read."""

    adapter: Annotated[str, AfterValidator(_class_name)] = Field(
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


class DispatchConfig(Section):
    """The sockets between the broker process and its workers, and the life of a job."""

    jobs_endpoint: Endpoint = Field(
        "",
        description="PUSH socket of jobs; empty: in the state directory, else"
        " tcp://127.0.0.1:PORT.",
    )
    results_endpoint: Endpoint = Field("", description="PULL socket of results, likewise.")
    control_endpoint: Endpoint = Field("", description="REP socket of `farm stats`, likewise.")
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


class DeadLettersConfig(Section):
    """Where holes that ended without an answer of the model are told, beside their own topics."""

    publish: bool = Field(
        True,
        description="Publish each on farm/<instance>/dead, and their number on"
        " farm/<instance>/dead/count (retained).",
    )


class WorkersConfig(Section):
    """How workers start and are known to live."""

    launch: Annotated[Literal["nursery", "exec", "ray"], AnyCase] = Field(
        "nursery",
        description="How workers are launched; nursery: forked from a process that has loaded the"
        " model once, in milliseconds; exec: each by itself, with a copy of its own; ray: on the"
        " machines of a Ray cluster (docs/ray.md).",
    )
    min: int = Field(
        0,
        ge=0,
        le=1000,
        description="Fewest workers, where their number follows the load; 0: one if max is given,"
        " else mqtt.processing.workers is the number, and fixed.",
    )
    max: int = Field(
        0,
        ge=0,
        le=1000,
        description="Most workers then; 0: as many as the cores carry. None is added beyond the"
        " cores (times threads) in any case, but on Ray, where this is the limit.",
    )
    ready_timeout_s: float = Field(
        60.0, gt=0, le=3600, description="Seconds from start to READY; torch on a slow disk is 20."
    )
    heartbeat_interval_s: float = Field(
        0.5, gt=0, le=60, description="Seconds between a worker's signs of life."
    )
    heartbeat_timeout_s: float = Field(
        5.0,
        gt=0,
        le=600,
        description="Seconds of silence after which a worker is killed and replaced; more than"
        " twice the interval.",
    )
    threads: int = Field(
        1, ge=1, le=256, description="Threads of torch in each worker; more workers serve better."
    )
    memory_limit_bytes: int = Field(
        0,
        ge=0,
        description="Memory (RSS) of one worker beyond which it is killed and replaced; 0: none.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max and self.min > self.max:
            raise refuse("max", f"must be at least min ({self.min})")
        if self.launch == "ray" and self.min and not self.max:
            raise refuse("max", "must be given where min is: the cores of this machine say nothing")
        if self.heartbeat_timeout_s <= 2 * self.heartbeat_interval_s:
            raise refuse(
                "heartbeat_timeout_s",
                f"must be more than twice heartbeat_interval_s ({self.heartbeat_interval_s})",
            )
        return self


class SupervisorConfig(Section):
    """How `farm start` replaces what fails and ends what runs."""

    drain_timeout_s: float = Field(
        20.0, ge=0, le=3600, description="Seconds for unfinished holes after SIGTERM."
    )
    backoff_initial_s: float = Field(
        0.2, gt=0, le=3600, description="Seconds before a failed process is started again."
    )
    backoff_max_s: float = Field(
        30.0, gt=0, le=3600, description="Longest such wait in seconds; it doubles up to it."
    )
    restart_budget: int = Field(
        10,
        ge=1,
        le=10_000,
        description="Failures of one slot in restart_window_s; then it is given up.",
    )
    restart_window_s: float = Field(
        60.0, gt=0, le=86_400, description="Seconds in which failures are counted."
    )
    broker_timeout_s: float = Field(
        10.0, gt=0, le=3600, description="Seconds of silence after which the broker is replaced."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.backoff_max_s < self.backoff_initial_s:
            raise refuse(
                "backoff_max_s", f"must be at least backoff_initial_s ({self.backoff_initial_s})"
            )
        return self


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


class Config(Section):
    """The whole configuration."""

    mqtt: MqttConfig = Field(default_factory=MqttConfig, description="MQTT and drilling traffic.")
    instance: Annotated[str, AfterValidator(one_level)] = Field(
        "",
        max_length=64,
        description="Name of this farm on its MQTT status topics; empty: the host's name.",
    )
    state_dir: FilePath | None = Field(
        None,
        description="Folder of sockets, lock and client id; without it $XDG_STATE_HOME/farm or"
        " ~/.local/state/farm.",
    )
    log: LogConfig = Field(default_factory=LogConfig, description="Logging.")
    traffic: TrafficConfig = Field(default_factory=TrafficConfig, description="Kind of messages.")
    model: Annotated[str, AfterValidator(_model_name)] = Field(
        "",
        description="Empty: the registered model of mqtt.processing.model_id; depthnet; rule; or"
        " package.module:Class of your own.",
    )
    model_settings: dict[str, Any] = Field(
        default_factory=dict,
        description="Settings of the model. The depth network knows weights (a folder), runtime"
        " (auto: the fastest that is safe on each machine), device and min_quality"
        " (docs/models.md); one of your own, what it likes.",
    )
    correlation: CorrelationConfig = Field(
        default_factory=CorrelationConfig, description="How parts are joined."
    )
    limits: LimitsConfig = Field(default_factory=LimitsConfig, description="Size of a message.")
    intake: IntakeConfig = Field(default_factory=IntakeConfig, description="The first queue.")
    dispatch: DispatchConfig = Field(
        default_factory=DispatchConfig, description="Sockets and jobs."
    )
    journal: JournalConfig = Field(default_factory=JournalConfig, description="What is kept.")
    overload: OverloadConfig = Field(default_factory=OverloadConfig, description="Too many holes.")
    dead_letters: DeadLettersConfig = Field(
        default_factory=DeadLettersConfig, description="Holes without an answer."
    )
    workers: WorkersConfig = Field(default_factory=WorkersConfig, description="Worker processes.")
    attach: AttachConfig = Field(
        default_factory=AttachConfig, description="Workers on other machines."
    )
    partition: PartitionConfig = Field(
        default_factory=PartitionConfig, description="One farm of several."
    )
    ray: RayConfig = Field(
        default_factory=RayConfig, description="Workers on a Ray cluster, with workers.launch: ray."
    )
    supervisor: SupervisorConfig = Field(
        default_factory=SupervisorConfig, description="Restarting and ending."
    )
    throughput: ThroughputConfig = Field(
        default_factory=ThroughputConfig, description="Keeping up."
    )
    metrics: MetricsConfig = Field(
        default_factory=MetricsConfig, description="What monitoring reads."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        least = self.limits.message_bytes
        if self.partition.group and self.journal.durability == "off":
            raise refuse("partition.group", "needs a journal: journal.durability is off")
        if self.intake.max_queued_bytes < least:
            raise refuse(
                "intake.max_queued_bytes", f"must be at least limits.message_bytes ({least})"
            )
        for key, value in (
            ("overload.memory_bytes", self.overload.memory_bytes),
            ("overload.max_open_bytes", self.overload.max_open_bytes),
            ("journal.segment_bytes", self.journal.segment_bytes),
        ):
            if value < least:
                raise refuse(key, f"must be at least limits.message_bytes ({least})")
        if self.workers.launch == "ray":
            self._check_ray()
        return self

    def _check_ray(self) -> None:
        if not self.attach.listen:
            raise refuse(
                "attach.listen",
                "must be given with workers.launch: ray, whose workers join from other machines;"
                " e.g. 0.0.0.0:7003",
            )
        if self.ray.key_file is None:
            raise refuse(
                "ray.key_file",
                "must be given with workers.launch: ray: the file of `farm keys new NAME --out"
                " FILE`, as it is mounted on every node",
            )
