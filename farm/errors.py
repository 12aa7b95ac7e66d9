"""Every error that `farm` raises on purpose, under one root, and the exit codes they map to.

Who raises what, along the way of a message::

    configuration  ──ConfigError──▶ the command line
    MQTT ▶ adapter ──ReadError────▶ broker: a published, counted error for that message
    worker ◀─wire─▶ broker ──WireError──▶ the frame is dropped and counted
    model ──ModelError──▶ the worker ends before READY; the supervisor backs off
    state directory ──StateError──▶ `farm start` refuses to run
    journal ──JournalError──▶ the broker refuses to serve; a hole whose bytes are damaged is dead
    control socket ──NoFarmError──▶ `farm stats` and friends
    recording ──RecordingError──▶ `farm record`, `farm replay`: nothing is published from a bad one
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a `farm` command's exit status means."""

    OK = 0
    FAILURE = 1  # the command ran and its answer is bad: a hole unanswered, a check failed
    USAGE = 2  # click's own: wrong options
    CONFIG = 3  # the configuration is wrong; nothing was started
    LOCKED = 4  # another farm owns the state directory
    UNHEALTHY = 5  # `farm stats`: the farm runs, but falls behind, lacks MQTT or workers
    NO_FARM = 6  # no farm answers in this state directory
    WORKERS_FAILED = 7  # more than half of the workers could not be kept alive
    MODEL = 8  # a worker's model can't be loaded; `farm start` counts these as failures
    MQTT_EVICTED = 9  # another client connected with our MQTT client id
    JOURNAL = 10  # the journal is damaged, or of another version; nothing was served
    ANEW = 11  # a worker on another machine is to be started again, with what it is told then


class FarmError(Exception):
    """The root. The message carries the cause and what to do about it."""

    exit_code = ExitCode.FAILURE


class ConfigError(FarmError):
    """The configuration is wrong. The message lists every problem with file, line and key."""

    exit_code = ExitCode.CONFIG


class ReadError(FarmError):
    """A message from MQTT can't be read. The message is one sentence, fit to be published."""


class WireError(FarmError):
    """A message between our own processes is malformed, too large or of another version."""


class ForgedError(WireError):
    """A worker on another machine says what it has no right to; it is told so, and counted."""


class RateError(WireError):
    """A worker on another machine says more than its key may; it is told so, and counted."""


class ModelError(FarmError):
    """The model can't be found, loaded, verified or warmed up."""

    exit_code = ExitCode.MODEL


class DeviceError(FarmError):
    """A worker's GPU computes nothing any more in this process; another process may."""


class StateError(FarmError):
    """The state directory can't be used: locked by another farm, not writable, path too long."""

    exit_code = ExitCode.LOCKED


class JournalError(FarmError):
    """The journal, or a message in it, is damaged or of another version."""

    exit_code = ExitCode.JOURNAL


class JournalBusyError(JournalError):
    """The journal can't be read now, and may be later: too many files are open."""


class RecordingError(FarmError):
    """A recording or a file of results is damaged, of another kind or version, or can't be kept."""


class NoFarmError(FarmError):
    """Nobody answers on the control socket of this state directory."""

    exit_code = ExitCode.NO_FARM


class MqttError(FarmError):
    """The MQTT broker can't be used as configured, and trying again won't help."""
