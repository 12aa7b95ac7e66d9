"""The whole configuration as one frozen typed tree: every key, its unit, default and bounds.

Owns the root, and what is checked across sections; each family of sections has a file of its own
(`mqtt`, whose keys the former system named, `intake`, `dispatch`, `journal`, `workers`, …). Reads
no file and no environment (`farm.config.load` does). etc/farm.yaml repeats it for people, held
equal by a test.
"""

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from farm.config.attach import AttachConfig
from farm.config.base import FilePath, Section, class_name, one_level, refuse
from farm.config.dispatch import DispatchConfig
from farm.config.gpus import contradiction
from farm.config.intake import (
    CorrelationConfig,
    IntakeConfig,
    LimitsConfig,
    OverloadConfig,
    TrafficConfig,
)
from farm.config.journal import JournalConfig
from farm.config.metrics import MetricsConfig
from farm.config.mqtt import MqttConfig
from farm.config.page import PageConfig
from farm.config.partition import PartitionConfig
from farm.config.ray import RayConfig
from farm.config.reporting import DeadLettersConfig, LogConfig, ThroughputConfig
from farm.config.telemetry import TelemetryConfig
from farm.config.workers import SupervisorConfig, WorkersConfig


def _model_name(text: str) -> str:
    if text in ("", "rule"):
        return text
    try:
        return class_name(text)
    except PydanticCustomError:
        raise PydanticCustomError(
            "model", "must be empty (built-in), rule, or of the form package.module:Class"
        ) from None


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
    page: PageConfig = Field(default_factory=PageConfig, description="The page for browsers.")
    supervisor: SupervisorConfig = Field(
        default_factory=SupervisorConfig, description="Restarting and ending."
    )
    throughput: ThroughputConfig = Field(
        default_factory=ThroughputConfig, description="Keeping up."
    )
    metrics: MetricsConfig = Field(
        default_factory=MetricsConfig, description="What monitoring reads."
    )
    telemetry: TelemetryConfig = Field(
        default_factory=TelemetryConfig, description="Traces of holes, for OpenTelemetry."
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
        if fault := contradiction(self.workers.gpus, self.model_settings.get("device")):
            raise refuse("workers.gpus", fault)
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
