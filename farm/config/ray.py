"""The configuration of workers on a Ray cluster."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from farm.config.base import Section

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z][0-9A-Za-z.-]*):[1-9][0-9]{0,4}")


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise PydanticCustomError(
            "path", "must be an absolute path: it is looked for on every node, not here"
        )
    return path


def _address(text: str) -> str:
    if text != "auto" and not _ADDRESS.fullmatch(text):
        raise PydanticCustomError("address", "must be auto, or HOST:PORT of the cluster's head")
    return text


Amount = Annotated[float, Field(gt=0, le=1_000_000)]


class RayConfig(Section):
    """Workers that Ray keeps, with `workers.launch: ray`."""

    address: Annotated[str, AfterValidator(_address)] = Field(
        "auto",
        description="HOST:PORT of the cluster's head; auto: the cluster of this machine, or of"
        " RAY_ADDRESS.",
    )
    key_file: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        None,
        description="Key file of `farm keys new NAME --out FILE`, as it is mounted on every node.",
    )
    num_cpus: float = Field(
        1.0, ge=0, le=1024, description="Cores that Ray keeps free for each worker."
    )
    num_gpus: float = Field(
        0.0,
        ge=0,
        le=16,
        description="GPUs that Ray keeps free for each worker; 0.5: two share one. 0: none, but"
        " with model_settings.device: cuda a whole one (by workers.per_gpu).",
    )
    resources: dict[str, Amount] = Field(
        default_factory=dict,
        description="Further resources of each worker by name, as the nodes were started with"
        " (`ray start --resources`).",
    )
    runtime_env: dict[str, Any] = Field(
        default_factory=dict,
        description="Environment of the workers, as Ray has it; empty: that of the nodes.",
    )
    local_workers: int = Field(
        0, ge=0, le=1000, description="Workers on this machine beside them, outside of Ray."
    )
