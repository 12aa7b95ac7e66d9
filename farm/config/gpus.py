"""What `workers.gpus` may say: how many GPUs, or which, get workers of their own.

Owns the words; which GPUs there are is `farm.gpus`'.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

AUTO: Final = "auto"
NONE: Final = "none"
GPU_BATCH_JOBS: Final = 256
MAX_GPUS: Final = 64
MAX_PER_GPU: Final = 16
_ITEM = re.compile(r"[0-9]{1,2}|(?:GPU|MIG)-[0-9A-Za-z/-]{1,100}")
_SHAPE: Final = (
    f"must be auto, none, a number from 1 to {MAX_GPUS}, or a list of different indices or UUIDs"
    " such as [0, 2]"
)


def items(text: str) -> tuple[str, ...]:
    """The indices and UUIDs of a checked list; () where it is none."""
    if not text.startswith("["):
        return ()
    return tuple(item.strip() for item in text.strip("[]").split(","))


def _as_text(value: Any) -> Any:
    """A list of YAML as text, in which it may also come from the environment."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    return value


def _checked(text: str) -> str:
    text = text.strip()
    if text.lower() in (AUTO, NONE):
        return text.lower()
    if re.fullmatch(r"[1-9][0-9]?", text) and int(text) <= MAX_GPUS:
        return text
    listed = items(text if text.startswith("[") else f"[{text}]")
    is_list = text.startswith("[") == text.endswith("]") and not re.fullmatch(r"[0-9]+", text)
    if is_list and all(map(_ITEM.fullmatch, listed)) and len(set(listed)) == len(listed):
        return f"[{', '.join(listed)}]"
    raise PydanticCustomError("gpus", _SHAPE)


GpusWanted = Annotated[str, BeforeValidator(_as_text), AfterValidator(_checked)]
"""auto, none, a number, or a list in brackets; as text."""


def contradiction(gpus: str, device: Any) -> str:
    """Why `workers.gpus` can't be beside the model's device, as a sentence; "" where it can."""
    if gpus == NONE and device == "cuda":
        return "must not be none with model_settings.device: cuda, which is for GPUs alone"
    if gpus not in (AUTO, NONE) and device == "cpu":
        return "must be auto or none with model_settings.device: cpu, which uses none"
    return ""
