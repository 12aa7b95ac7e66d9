"""The configuration: one annotated YAML file, the environment and the command line, as one tree."""

from farm.config.load import Loaded, load_config
from farm.config.mqtt import (
    BrokerConfig,
    DataIdsConfig,
    DepthValidationConfig,
    EstimationConfig,
    ListenerConfig,
    MqttConfig,
    ProcessingConfig,
    TlsConfig,
)
from farm.config.tree import (
    Config,
    CorrelationConfig,
    DispatchConfig,
    IntakeConfig,
    LimitsConfig,
    LogConfig,
    SupervisorConfig,
    ThroughputConfig,
    TrafficConfig,
    WorkersConfig,
)

__all__ = [
    "BrokerConfig",
    "Config",
    "CorrelationConfig",
    "DataIdsConfig",
    "DepthValidationConfig",
    "DispatchConfig",
    "EstimationConfig",
    "IntakeConfig",
    "LimitsConfig",
    "ListenerConfig",
    "Loaded",
    "LogConfig",
    "MqttConfig",
    "ProcessingConfig",
    "SupervisorConfig",
    "ThroughputConfig",
    "TlsConfig",
    "TrafficConfig",
    "WorkersConfig",
    "load_config",
]
