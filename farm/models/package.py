"""A model as a folder: weights, a manifest that vouches for them, and a card for people.

Owns the folder's form and its checks. What is in the weights is the network's business. Weights are
safetensors, manifests JSON: nothing that is read here can carry code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from farm.errors import ModelError

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
ONNX = "network.onnx"
INT8 = "network.int8.onnx"
CARD = "CARD.md"
FORMAT = 1
"""Of the manifest; a newer one is refused."""

_MAX_MANIFEST_BYTES = 1_000_000
_SHA256_CHARS = 64
_HASH_CHARS = 16  # of a sha256: enough to tell weights apart, short enough to publish


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class Manifest:
    """What a package says of itself.

    Attributes:
        name: of the model, with its version, published as AlgoVersion.
        architecture: what the weights fit into.
        sha256: of each file of the package, by name.
        training: how it was made: seed, holes, hours.
        metrics: how good it was found, by family.
        licence: under which it may be used.
        made: when, as an ISO date.
        format: of this manifest.
    """

    name: str
    architecture: dict[str, Any]
    sha256: dict[str, str]
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    licence: str = "Apache-2.0"
    made: str = ""
    format: int = FORMAT


_MANIFEST = TypeAdapter(Manifest)


@dataclass(frozen=True, slots=True)
class Package:
    """A model's folder, its manifest read."""

    folder: Path
    manifest: Manifest

    def read(self, name: str) -> bytes:
        """A file of the package, its hash compared.

        Raises:
            ModelError: it is not listed, missing, or not what the manifest vouches for.
        """
        wanted = self.manifest.sha256.get(name)
        if wanted is None:
            raise ModelError(f"the model {self.folder} has no {name}: {_cure(self.folder)}")
        payload = _read(self.folder / name)
        found = hashlib.sha256(payload).hexdigest()
        if found != wanted:
            raise ModelError(
                f"{self.folder / name} is not what {MANIFEST} vouches for "
                f"(sha256 {found[:_HASH_CHARS]}…, not {wanted[:_HASH_CHARS]}…): "
                f"{_cure(self.folder)}"
            )
        return payload

    def short_hash(self, name: str) -> str:
        """Identifies a file in published answers."""
        return self.manifest.sha256[name][:_HASH_CHARS]

    def verify(self) -> list[str]:
        """Compare every file; returns their names.

        Raises:
            ModelError: one is missing or changed.
        """
        for name in self.manifest.sha256:
            self.read(name)
        return list(self.manifest.sha256)


def open_package(folder: Path) -> Package:
    """The package in a folder; its files are read and compared only when asked for.

    Raises:
        ModelError: there is none, or its manifest can't be used.
    """
    path = folder / MANIFEST
    payload = _read(path)
    if len(payload) > _MAX_MANIFEST_BYTES:
        raise ModelError(f"{path} is too large to be a manifest: {_cure(folder)}")
    try:
        told = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no manifest ({error}): {_cure(folder)}") from error
    found = told.get("format", FORMAT) if isinstance(told, dict) else FORMAT
    if found != FORMAT:  # asked before anything else, of which a newer one may have more
        raise ModelError(f"{path} has format {found!r}, not {FORMAT}: update farm")
    try:
        manifest = _MANIFEST.validate_json(payload, strict=True)
    except ValidationError as error:
        cause = error.errors()[0]
        where = ".".join(map(str, cause["loc"])) or "the whole"
        raise ModelError(
            f"{path} is no manifest ({where}: {cause['msg']}): {_cure(folder)}"
        ) from error
    hashes = all(len(v) == _SHA256_CHARS for v in manifest.sha256.values())
    if not hashes or any(Path(name).name != name for name in manifest.sha256):
        raise ModelError(f"{path} names files or hashes that can't be: {_cure(folder)}")
    return Package(folder, manifest)


def write_package(folder: Path, files: dict[str, bytes], manifest: Manifest) -> Package:
    """Write a package; the hashes in the manifest are taken from the files.

    The manifest is written last and at once, so that a package is whole or is none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hashes = {name: hashlib.sha256(payload).hexdigest() for name, payload in files.items()}
    for name, payload in files.items():
        _write(folder / name, payload)
    told = asdict(manifest) | {"sha256": hashes}
    _write(folder / MANIFEST, json.dumps(told, indent=1, sort_keys=True).encode() + b"\n")
    return open_package(folder)


def _write(path: Path, payload: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(payload)
    part.replace(path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"can't read {path}: {error.strerror}: {_cure(path.parent)}") from error


def _cure(folder: Path) -> str:
    return f"restore the folder {folder}, or make one with `farm train --out FOLDER`"
