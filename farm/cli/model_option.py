"""The one way in which commands take a model by `--model`: a number, a folder, or `rule`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.errors import FarmError

if TYPE_CHECKING:
    from farm.models.model import Model
    from farm.models.package import Package


def load_named(name: str, models_dir: Path | None, *, runtime: str = "") -> Model:
    """The model that a `--model` names, constructed but not warmed up.

    Args:
        name: a registered model's number, a model's folder of any kind, or "rule".
        models_dir: where a site's own numbered models are.
        runtime: of a depth network; "" for the network itself, so that what is scored and drawn is
            the same on every machine. Other kinds have none.

    Raises:
        FarmError: there is no such model, or it can't be loaded.
    """
    from farm.models.package import open_package  # noqa: PLC0415 - --help must answer at once
    from farm.models.registry import find_package, kind_of, load_model  # noqa: PLC0415

    if name.isdecimal():
        package = find_package(int(name), models_dir)
        return load_model("", int(name), _settings(kind_of(package), runtime), models_dir)
    if name == "rule":
        return load_model("rule", 0, {})
    if not Path(name).is_dir():
        raise FarmError(f"--model {name} is neither a number, nor a folder, nor `rule`")
    package = open_package(Path(name))
    kind = kind_of(package)
    return load_model(kind, 0, _weights(kind, package) | _settings(kind, runtime))


def label_of(name: str, model: Model, *, runtime: str = "") -> str:
    """How tables name a model that was loaded so: its version, and in brackets what is special."""
    from farm.models.depthnet import DepthModel  # noqa: PLC0415
    from farm.models.runtime import EXACT  # noqa: PLC0415

    special = runtime not in ("", EXACT) and isinstance(model, DepthModel)
    return f"{model.version} ({name}, {runtime})" if special else f"{model.version} ({name})"


def _settings(kind: str, runtime: str) -> dict[str, Any]:
    from farm.models.runtime import EXACT  # noqa: PLC0415

    return {"runtime": runtime or EXACT} if kind == "depthnet" else {}


def _weights(kind: str, package: Package) -> dict[str, Any]:
    return {"weights": str(package.folder)} if kind == "depthnet" else {}
