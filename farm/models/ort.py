"""ONNX Runtime, imported the one way in which it keeps to itself."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from farm.errors import ModelError


def import_onnxruntime() -> Any:
    """The library, which from here on sends nothing to its makers.

    Since 1.29 it reports usage on Linux, too, from a thread that starts with the import and with
    files in ~/.cache, unless told otherwise before. A plant's machine has nothing to tell; and a
    process with such a thread is not safe to fork.

    Raises:
        ModelError: it is not installed.
    """
    if not has_onnxruntime():
        raise ModelError(
            "this runtime needs ONNX Runtime: pip install onnxruntime, "
            "or set model_settings.runtime to frozen"
        )
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime  # noqa: PLC0415 - 0.1 s, for whoever runs it alone

    return onnxruntime


def has_onnxruntime() -> bool:
    """Whether it is installed; asked without importing it."""
    return importlib.util.find_spec("onnxruntime") is not None
