"""The configuration of the worker processes, and of the supervisor that keeps them."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from farm.config.base import AnyCase, Section, refuse
from farm.config.gpus import MAX_PER_GPU, GpusWanted


class WorkersConfig(Section):
    """How workers start and are known to live."""

    launch: Annotated[Literal["nursery", "exec", "ray"], AnyCase] = Field(
        "nursery",
        description="How workers are launched; nursery: forked from a process that has loaded the"
        " model once, in milliseconds; exec: each by itself, with a copy of its own; ray: on the"
        " machines of a Ray cluster (docs/ray.md).",
    )
    gpus: GpusWanted = Field(
        "auto",
        description="GPUs that get workers of their own, beside mqtt.processing.workers; auto: all"
        " that are here, if the model can use them; none; how many; or a list such as [0, 2]"
        " (docs/gpu.md).",
    )
    per_gpu: int = Field(
        1, ge=1, le=MAX_PER_GPU, description="Workers of each of these GPUs; they share it."
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
