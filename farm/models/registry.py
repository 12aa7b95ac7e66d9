"""The models by id, and how the one that the configuration names is loaded and proved to be one.

A registered model is a folder, named by its id, with a manifest, weights and a card
(`farm.models.package`): the built-in ones in `library/`, a site's own in `models_dir`.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from farm.adapter import load_class
from farm.errors import ModelError
from farm.models.model import Model
from farm.models.package import MANIFEST, Package, open_package

if TYPE_CHECKING:
    from collections.abc import Mapping

LIBRARY: Final = Path(__file__).with_name("library")
DEFAULT_ID: Final = 4

ALIASES: Final = MappingProxyType({2: 4, 3: 4})
"""Ids of the system that `farm` replaces, whose networks are gone; their successor answers."""

# Named by text, so that whoever wants the rule does not import torch. A manifest names one of
# these and nothing else: a folder of data must not choose what code is run.
_KINDS = {
    "depthnet": "farm.models.depthnet:DepthModel",
    "rule": "farm.models.rule:GradientRule",
}
_NAMES = {"depthnet": 4, "rule": 1}
_PROTOCOL = ("version", "content_hash", "warm_up", "infer")


def model_folders(models_dir: Path | None = None) -> dict[int, Path]:
    """Every folder named by a number, usable or not; a site's own win over built-in ones."""
    found: dict[int, Path] = {}
    for root in (LIBRARY, models_dir):
        if root is not None and root.is_dir():
            # 07 is not 7: who asks for 7 would not find it.
            named = {str(int(p.name)): p for p in root.iterdir() if p.name.isdecimal()}
            found |= {int(name): path for name, path in named.items() if path.name == name}
    return dict(sorted(found.items()))


def find_package(model_id: int, models_dir: Path | None = None) -> Package:
    """The model of an id.

    Raises:
        ModelError: there is none, or its manifest can't be used.
    """
    folders = model_folders(models_dir)
    # An alias gives way to a model that has really been given its number.
    folder = folders.get(model_id) or folders.get(ALIASES.get(model_id, model_id))
    if folder is not None:
        return open_package(folder)
    allowed = ", ".join(map(str, sorted({*folders, *ALIASES})))
    where = f" and none in {models_dir}" if models_dir else ""
    raise ModelError(
        f"there is no built-in model {model_id}{where}: choose one of {allowed}, name a class as "
        "package.module:Class, or set mqtt.processing.models_dir"
    )


def kind_of(package: Package) -> str:
    """Which of our classes runs a package.

    Raises:
        ModelError: none does.
    """
    kind = package.manifest.architecture.get("kind")
    if kind not in _KINDS:
        raise ModelError(
            f"{package.folder / MANIFEST} is of the kind {kind!r}, which this farm can't run: "
            f"it knows {', '.join(_KINDS)}; update farm"
        )
    return str(kind)


def package_of(
    spec: str, model_id: int, settings: Mapping[str, Any], models_dir: Path | None = None
) -> Package | None:
    """The folder of data that a configured model is; None: it is code, of ours or the user's.

    The arguments are those of `load_model`.

    Raises:
        ModelError: there is no such model, or its manifest can't be used.
    """
    if spec and spec not in _NAMES:
        return None
    package = find_package(_NAMES.get(spec, model_id), models_dir if not spec else None)
    if kind_of(package) != "depthnet":
        return None
    weights = settings.get("weights")
    return open_package(Path(weights)) if weights else package


def load_model(
    spec: str, model_id: int, settings: Mapping[str, Any], models_dir: Path | None = None
) -> Model:
    """The configured model, constructed but not warmed up.

    Args:
        spec: "" for the registered model of the id, "depthnet", "rule", or
            "package.module:Class" of your own.
        model_id: looked at only when the spec is "".
        settings: given to the class as it stands.
        models_dir: where a site's own models are.

    Raises:
        ModelError: the id is unknown, the class can't be constructed, or it is no `Model`.
        ConfigError: the spec is malformed or names nothing that can be imported.
    """
    if not spec or spec in _NAMES:
        package = find_package(_NAMES.get(spec, model_id), models_dir if not spec else None)
        kind = kind_of(package)
        if kind == "depthnet":
            # A key without a value keeps its default, here the model that was asked for.
            settings = {**settings, "weights": settings.get("weights") or str(package.folder)}
        spec, found = spec or kind, load_class(_KINDS[kind], "model")
    else:
        found = load_class(spec, "model")
    model = _construct(found, spec, settings)
    missing = [name for name in _PROTOCOL if not hasattr(model, name)]
    if missing:
        raise ModelError(
            f"model {spec!r} lacks {', '.join(missing)}: farm.models.model.Model says what to add"
        )
    assert isinstance(model, Model)
    return model


def _construct(found: type[Any], spec: str, settings: Mapping[str, Any]) -> Any:
    """An instance; whatever the user's class raises becomes a ModelError that keeps its cause."""
    try:
        return found(settings)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"model {spec!r} can't be constructed with model_settings {dict(settings)!r}: "
            f"{type(error).__name__}: {error}"
        ) from error
