"""The `Origin` of an answer: which weights, runtime, worker, host and configuration made it.

What the journal has of that is the model's version and hash and the worker's name. The hash is that
of the very file that was run, so it also tells the runtime. The host is known while the worker is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from farm.errors import ModelError
from farm.models.registry import find_package, model_folders

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from farm.config import Config

_RUNTIMES: Final = {
    "network.int8.onnx": "ONNX Runtime, int8",
    "network.onnx": "ONNX Runtime, float32",
    "weights.safetensors": "PyTorch",
}


class Origin:
    """See the module.

    Args:
        config: in force.
        state_dir: of the farm.
        config_file: where `config` was read; None: all is default.
    """

    def __init__(self, config: Config, state_dir: Path, config_file: Path | None) -> None:
        model = config.model or f"number {config.mqtt.processing.model_id}"
        self._place = [
            ("model setting", model),
            ("configuration", "defaults" if config_file is None else str(config_file)),
            ("state folder", str(state_dir)),
        ]
        self._files = dict(_hashes(config.mqtt.processing.models_dir))

    def rows(
        self, hole: Mapping[str, Any], snapshot: Mapping[str, Any] | None
    ) -> list[tuple[str, str]]:
        """What there is to tell, as rows of a table.

        Args:
            hole: as `Looks.hole` gives it.
            snapshot: of the farm, the last there was.
        """
        rows = []
        if name := self._files.get(hole["model_hash"]):
            rows.append(("runtime", f"{_RUNTIMES.get(name, 'of')} ({name})"))
        if host := _host(hole, snapshot):
            rows.append(("host", host))
        if snapshot is not None:
            rows.append(("farm", f"{snapshot['instance']}, version {snapshot['farm_version']}"))
        return rows + self._place


def _hashes(models_dir: Path | None) -> Iterator[tuple[str, str]]:
    """Short hash and name of the files of all registered models."""
    for number in model_folders(models_dir):
        try:
            package = find_package(number, models_dir)
        except ModelError:
            continue
        for name in package.manifest.sha256:
            if name in _RUNTIMES:
                yield package.short_hash(name), name


def _host(hole: Mapping[str, Any], snapshot: Mapping[str, Any] | None) -> str:
    """Of the worker, where it is still there with the same model; "" where it is not known."""
    claims = [event["detail"] for event in hole["timeline"] if event["what"] == "claimed"]
    if not claims or snapshot is None:
        return ""
    return next(
        (
            str(worker["host"])
            for worker in snapshot["workers"]
            if claims[-1] == f"worker {worker['name']}"
            and worker["model_hash"] == hole["model_hash"]
        ),
        "",
    )
