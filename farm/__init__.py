"""farm: messages in over MQTT, joined, a resident model run on them, the answer out over MQTT."""

__version__ = "0.1.0"
