"""Everything under `mqtt:`, under the very names of the system that farm replaces.

Owns those keys, their defaults and bounds. A configuration file of that system must stay valid.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, model_validator

from farm.config.base import AnyCase, AsText, FieldPath, FilePath, Level, Section, Topic, refuse

_RESULT = "ResultManagement.Results.0"
_STEPS = f"{_RESULT}.ResultContent.StepResults.0.StepResultValues"
_TRACES = f"{_RESULT}.ResultContent.Trace.StepTraces"
_ESTIMATE = f"{_RESULT}.ResultContent.DepthEstimation"
_HEAD = "AssetManagement.Assets.Heads.0"


class TlsConfig(Section):
    """Encryption of the connection to the MQTT broker."""

    enabled: bool = Field(False, description="Connect with TLS; the usual port is then 8883.")
    ca_file: FilePath | None = Field(
        None, description="Certificates (PEM) to trust; without it those of the system."
    )
    cert_file: FilePath | None = Field(
        None, description="Our own certificate (PEM), where the MQTT broker asks for one."
    )
    key_file: FilePath | None = Field(None, description="The private key (PEM) of cert_file.")
    insecure: bool = Field(
        False, description="Accept a certificate for another host name. For trials only."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.key_file and not self.cert_file:
            raise refuse("key_file", "needs cert_file beside it")
        if self.cert_file and not self.key_file:
            raise refuse("cert_file", "needs key_file beside it")
        return self


class BrokerConfig(Section):
    """The MQTT broker to connect to."""

    host: str = Field("localhost", min_length=1, description="Host name or address.")
    port: int = Field(1883, ge=1, le=65_535, description="TCP port; 1883 is plain MQTT, 8883 TLS.")
    username: str = Field("", description="User name; empty: connect without one.")
    password: SecretStr = Field(
        SecretStr(""), description="Password; rather give password_file or the environment."
    )
    username_file: FilePath | None = Field(
        None, description="A file that holds the user name, instead of username."
    )
    password_file: FilePath | None = Field(
        None, description="A file that holds the password, instead of password."
    )
    keepalive: int = Field(
        60,
        ge=1,
        le=65_535,
        description="Seconds between signs of life to the MQTT broker; 60 is MQTT's habit.",
    )
    protocol: Annotated[Literal["auto", "5", "3.1.1"], AsText] = Field(
        "auto", description="MQTT version; auto: 5, and 3.1.1 where the broker refuses 5."
    )
    client_id: str = Field(
        "",
        max_length=128,
        description="Name of our session at the MQTT broker; empty: made once, kept in the"
        " state directory. Two farms must not share one.",
    )
    session_expiry_s: int = Field(
        86_400,
        ge=0,
        le=4_294_967_295,
        description="Seconds for which the MQTT broker keeps our messages while we are away;"
        " a day outlasts a night's outage.",
    )
    receive_maximum: int = Field(
        200,
        ge=1,
        le=65_535,
        description="Messages the MQTT broker may send before we acknowledge one (MQTT 5); 200"
        " keep 2 s of a busy site on the way.",
    )
    max_inflight: int = Field(
        200, ge=1, le=60_000, description="Answers of ours on the way to the MQTT broker at once."
    )
    reconnect_min_s: float = Field(
        0.5, gt=0, le=3600, description="Seconds before the first new attempt to connect."
    )
    reconnect_max_s: float = Field(
        30.0, gt=0, le=3600, description="Longest wait in seconds; the wait doubles up to it."
    )
    tls: TlsConfig = Field(default_factory=TlsConfig, description="Encryption.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.username and self.username_file:
            raise refuse("username_file", "give either username or username_file, not both")
        if self.password.get_secret_value() and self.password_file:
            raise refuse("password_file", "give either password or password_file, not both")
        if self.reconnect_max_s < self.reconnect_min_s:
            raise refuse(
                "reconnect_max_s", f"must be at least reconnect_min_s ({self.reconnect_min_s})"
            )
        return self


class ListenerConfig(Section):
    """Which messages are taken in, and how those of one hole are brought together."""

    root: Topic = Field("OPCPUBSUB", description="First level or levels of every topic.")
    toolboxid: Level = Field("+", description="Only this toolbox; + for all.")
    toolid: Level = Field("+", description="Only this tool; + for all.")
    result: Topic = Field("ResultManagement", description="Topic of Results, after the tool.")
    trace: Topic = Field("ResultManagement/Trace", description="Topic of Traces, after the tool.")
    heads: Topic = Field("AssetManagement/Heads", description="Topic of Heads, after the tool.")
    duplicate_handling: Annotated[Literal["ignore", "replace", "error"], AnyCase] = Field(
        "ignore",
        description="What to do with a second message of a kind for one hole: ignore it, let it"
        " replace the first while that still waits, or publish an error.",
    )
    duplicate_time_window: float = Field(
        1.0,
        ge=0,
        le=86_400,
        description="Seconds after a hole was joined in which a repeat still counts as one;"
        " a gateway resends at once.",
    )
    time_window: float = Field(
        30.0,
        gt=0,
        le=86_400,
        description="Seconds of arrival in which the messages of a hole must meet; then they"
        " expire with a published error.",
    )
    cleanup_interval: float = Field(
        60.0, gt=0, le=86_400, description="Seconds between sweeps of what is no longer needed."
    )
    max_buffer_size: int = Field(
        10_000,
        ge=1,
        le=10_000_000,
        description="Messages that may wait for their partner, in all; 100 holes/s for 30 s is"
        " 9000.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.trace == self.result:
            raise refuse("trace", "must differ from listener.result")
        if self.heads in (self.result, self.trace):
            raise refuse("heads", "must differ from listener.result and listener.trace")
        return self

    def input_topics(self) -> frozenset[str]:
        """The topics after the tool that are taken in, with the singular and plural of gateways."""
        several = {
            f"{topic.removesuffix('s')}{end}"
            for topic in (self.trace, self.heads)
            for end in ("", "s")
        }
        return frozenset({self.result, self.trace, self.heads} | several)


class DataIdsConfig(Section):
    """Where the values lie in the messages, without namespace, tool name and `.MeasuredValue`."""

    machine_id: FieldPath = Field(
        f"{_RESULT}.ResultMetaData.SerialNumber", description="The machine (Result)."
    )
    head_id: FieldPath = Field(
        f"{_HEAD}.Identification.SerialNumber", description="The head (Heads)."
    )
    result_id: FieldPath = Field(
        f"{_RESULT}.ResultMetaData.ResultId", description="The hole's id (Result)."
    )
    trace_result_id: FieldPath = Field(
        f"{_TRACES}.PositionTrace.StepResultId", description="The hole's id (Trace)."
    )
    position: FieldPath = Field(
        f"{_TRACES}.PositionTrace.StepTraceContent[0].Values",
        description="Position in mm, negative going forward (Trace).",
    )
    thrust: FieldPath = Field(
        f"{_TRACES}.IntensityThrustTrace.StepTraceContent[0].Values",
        description="Thrust motor current in A, relative to no-load (Trace).",
    )
    torque: FieldPath = Field(
        f"{_TRACES}.IntensityTorqueTrace.StepTraceContent[0].Values",
        description="Torque motor current in A, relative to no-load (Trace).",
    )
    step: FieldPath = Field(
        f"{_TRACES}.StepNumberTrace.StepTraceContent[0].Values",
        description="Program step of each sample (Trace).",
    )
    torque_empty_vals: FieldPath = Field(
        f"{_STEPS}.IntensityTorqueEmpty",
        description="No-load torque current in A by step (Result).",
    )
    thrust_empty_vals: FieldPath = Field(
        f"{_STEPS}.IntensityThrustEmpty",
        description="No-load thrust current in A by step (Result).",
    )
    step_vals: FieldPath = Field(f"{_STEPS}.StepNumber", description="The step numbers (Result).")
    stop_codes: FieldPath = Field(
        f"{_STEPS}.StopCode", description="Why the machine ended each step (Result)."
    )
    durations: FieldPath = Field(
        f"{_STEPS}.Duration", description="Seconds that each step took (Result)."
    )
    head_cycle: FieldPath = Field(
        f"{_HEAD}.LifetimeCounters.0.LifeTimeCycleCounter",
        description="The hole that a Heads message belongs to (Heads).",
    )


class EstimationConfig(Section):
    """Where the answers go, `<root>/<toolbox>/<tool>/` and then these, and what they tell."""

    keypoints: Topic = Field(
        f"{_ESTIMATE}.KeyPoints",
        description="Entry, transition, exit in mm; entry and exit where there is one material.",
    )
    depth_estimation: Topic = Field(
        f"{_ESTIMATE}.DepthEstimation", description="The depths of the materials in mm."
    )
    errors: Topic = Field(
        f"{_ESTIMATE}.Errors", description="Messages that can't be attributed to any hole."
    )
    confidence: bool = Field(
        True,
        description="Add ModelHash, Sigma and Quality; false: the former system's fields alone,"
        " for consumers that refuse others.",
    )
    tip_keypoints: bool = Field(
        False,
        description="Add TipKeyPoints to the KeyPoints message, where the model gives them: where"
        " the tip itself met each boundary, which may be ahead of the torque.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.depth_estimation == self.keypoints:
            raise refuse("depth_estimation", "must differ from estimation.keypoints")
        if self.errors in (self.keypoints, self.depth_estimation):
            raise refuse("errors", "must differ from the other topics of estimation")
        return self


class ProcessingConfig(Section):
    """How many workers compute, and with which built-in model."""

    workers: int = Field(
        10,
        ge=0,
        le=1000,
        description="Worker processes started here; 0 where all of them are started by hand.",
    )
    model_id: int = Field(
        4,
        ge=1,
        le=1_000_000,
        description="Model by number: 1 the rule, 4 the depth network, or one in models_dir; `farm"
        " models list` shows them. `model:` at the top level overrides it.",
    )
    models_dir: FilePath | None = Field(
        None,
        description="Folder of models of your own, each a folder named by its number, as written by"
        " `farm train --out`.",
    )


class DepthValidationConfig(Section):
    """What happens to answers with a negative depth."""

    negative_depth_behavior: Annotated[Literal["publish", "skip", "warning"], AnyCase] = Field(
        "publish",
        description="Publish as they are, skip (count only), or publish with a warning in them.",
    )
    track_sequential_negatives: bool = Field(
        True, description="Count runs of negative depths by tool, and alert."
    )
    sequential_threshold: int = Field(
        5, ge=1, le=100_000, description="Negative depths in a row that raise the alert."
    )
    sequential_window_minutes: float = Field(
        5.0, gt=0, le=10_080, description="Minutes in which they must come; one alert in each."
    )


class MqttConfig(Section):
    """The MQTT side and the drilling traffic, named as in the former system."""

    broker: BrokerConfig = Field(default_factory=BrokerConfig, description="Where to connect.")
    listener: ListenerConfig = Field(default_factory=ListenerConfig, description="What to take in.")
    data_ids: DataIdsConfig = Field(
        default_factory=DataIdsConfig, description="Where the values lie in the messages."
    )
    estimation: EstimationConfig = Field(
        default_factory=EstimationConfig, description="Where the answers go, and what they tell."
    )
    processing: ProcessingConfig = Field(
        default_factory=ProcessingConfig, description="Workers and model."
    )
    depth_validation: DepthValidationConfig = Field(
        default_factory=DepthValidationConfig, description="Negative depths."
    )
    publisher: Any = Field(None, description="Of the former system: accepted and unused.")
    analyzer: Any = Field(None, description="Of the former system: accepted and unused.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        taken = self.listener.input_topics()
        for name in ("keypoints", "depth_estimation", "errors"):
            if getattr(self.estimation, name) in taken:
                raise refuse(
                    f"estimation.{name}", "is also a topic we listen to: answers would come back in"
                )
        return self
