"""Finds the model that the configuration names, and proves that it is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm.adapter import load_class
from farm.errors import ModelError
from farm.models.model import Model

if TYPE_CHECKING:
    from collections.abc import Mapping

MODEL_IDS = (1, 2, 3, 4)
"""Known from the system that `farm` replaces; all of them mean the built-in depth network."""

_PROTOCOL = ("version", "content_hash", "warm_up", "infer")

# Named by text, so that whoever wants the rule does not import torch.
_BUILT_IN = {
    "": "farm.models.depthnet:DepthModel",
    "depthnet": "farm.models.depthnet:DepthModel",
    "rule": "farm.models.rule:GradientRule",
}


def load_model(spec: str, model_id: int, settings: Mapping[str, Any]) -> Model:
    """The configured model, constructed but not warmed up.

    Args:
        spec: "" or "depthnet", "rule", or "package.module:Class" of your own.
        model_id: 1-4; looked at only when the spec is "".
        settings: given to the class as it stands.

    Raises:
        ModelError: the id is unknown, the class can't be constructed, or it is no `Model`.
        ConfigError: the spec is malformed or names nothing that can be imported.
    """
    if not spec and model_id not in MODEL_IDS:
        allowed = ", ".join(map(str, MODEL_IDS))
        raise ModelError(
            f"there is no model {model_id}: choose one of {allowed}, "
            "or name a class as package.module:Class"
        )
    found = load_class(_BUILT_IN.get(spec, spec), "model")
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
