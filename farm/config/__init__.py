"""The configuration: one annotated YAML file, the environment and the command line, as one tree."""

from farm.config.dispatch import DispatchConfig
from farm.config.intake import CorrelationConfig, IntakeConfig, LimitsConfig, TrafficConfig
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
from farm.config.reporting import LogConfig, ThroughputConfig
from farm.config.tree import Config
from farm.config.workers import SupervisorConfig, WorkersConfig

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
