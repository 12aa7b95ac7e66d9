"""The doctor: looks at a machine, a configuration and an MQTT broker, and says what would fail.

One file a concern, each with `examine(patient)`, which yields findings. `examination` runs them.
Nothing here changes a farm that runs, and nothing stays behind.
"""
