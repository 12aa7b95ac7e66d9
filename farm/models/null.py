"""A model that does nothing: what is measured with it is everything else. For `farm bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm.models.model import depth_answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class NullModel:
    """Answers every hole alike, as `farm.models.model.Model`; takes no settings."""

    version = "null"
    content_hash = "null"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        del settings

    def warm_up(self) -> None:
        """Nothing is cold."""

    def infer(self, inputs: Sequence[Any]) -> list[Mapping[str, Any]]:
        """The same depths for each."""
        return [depth_answer((1.0, 2.0, 3.0)) for _ in inputs]
