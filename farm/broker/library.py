"""The `Library`: the model's files, lent piece by piece to workers on other machines.

Owns what is told of them and what is handed out: only files that the package's manifest vouches
for, and the worker compares each with the hash that it was told. A model that is a class of the
user's has none, and must be installed on the other machine.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from farm import log, wire
from farm.errors import ModelError
from farm.models.package import MANIFEST
from farm.models.registry import kind_of, package_of

if TYPE_CHECKING:
    from farm.config import Config
    from farm.models.package import Package

PIECE_BYTES: Final = 500_000  # fits into a head
DIGEST_CHARS: Final = 16


class Library:
    """See the module.

    Args:
        package: of the model in force; None: it has none.
    """

    def __init__(self, package: Package | None) -> None:
        self._package = package
        told = json.dumps(self.catalogue(), sort_keys=True)
        self.digest = hashlib.sha256(told.encode()).hexdigest()[:DIGEST_CHARS]

    @classmethod
    def of(cls, config: Config) -> Library:
        """The library of a configuration. Where its package can't be used, it lends nothing."""
        try:
            processing = config.mqtt.processing
            package = package_of(
                config.model, processing.model_id, config.model_settings, processing.models_dir
            )
        except ModelError as error:  # local workers say the same, and why it matters
            log.get().warning("no_model_to_lend", reason=str(error))
            package = None
        return cls(package)

    def catalogue(self) -> dict[str, Any]:
        """Name, kind and files (sha256 by name) of the package; {}: there is none."""
        if self._package is None:
            return {}
        manifest = self._package.manifest
        kind = kind_of(self._package)
        return {"name": manifest.name, "kind": kind, "sha256": manifest.sha256}

    def piece(self, name: str, offset: int) -> wire.Message:
        """The reply to a `Fetch`."""
        if self._package is None:
            return wire.Refused("this farm's model has no files to lend: install it there")
        if name != MANIFEST and name not in self._package.manifest.sha256:
            return wire.Refused(f"the model has no file {name!r:.80}")
        if offset < 0:
            return wire.Refused(f"a file does not begin at {offset}")
        try:
            with (self._package.folder / name).open("rb") as file:
                file.seek(offset)
                return wire.Piece(file.read(PIECE_BYTES))
        except (OSError, OverflowError) as error:
            return wire.Refused(f"the farm can't read {name} itself: {error}")

    def fault(self, model_hash: str) -> str:
        """Why a worker that computes with this model is not wanted; "" where nothing is known."""
        if self._package is None:
            return ""
        package = self._package
        ours = {package.short_hash(name) for name in package.manifest.sha256}
        if model_hash in ours:
            return ""
        return (
            f"it computes with another model ({model_hash:.40}) than this farm, "
            f"{package.manifest.name}: start it without weights of its own, and it fetches ours"
        )
