"""The `Staging`: brings the grids of a batch to a GPU in one transfer, from pinned memory.

A transfer from ordinary memory is copied by the driver first, and each one waits. Batches are
filled up to the next power of two, so that few sizes are ever run, and all of them can be warmed
up: a size that is new costs its first batch a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from farm.drilling.hole import FloatArray


def padded(b: int) -> int:
    """The size of the batch in which `b` holes are run: the next power of two."""
    return 1 << (b - 1).bit_length()


def sizes(most: int) -> list[int]:
    """The sizes in which batches of up to `most` holes are run."""
    return [1 << n for n in range(padded(most).bit_length())]


class Staging:
    """See the module. One thread uses it, and has read a batch's answers before it brings the next.

    Args:
        torch: the module.
        device: the torch device.
    """

    def __init__(self, torch: Any, device: Any) -> None:
        self._torch = torch
        self._device = device
        self._is_pinned = device.type == "cuda"
        self._buffer: Any = None  # float32, as long as the largest batch so far

    def to_device(self, arrays: Sequence[FloatArray]) -> list[Any]:
        """The same on the device, as tensors (p, ...) of float32, where p is `padded(b)`.

        Args:
            arrays: each (b, ...), of b holes. Holes beyond them are made up: all zero.
        """
        b = len(arrays[0])
        p = padded(b)
        shapes = [(p, *array.shape[1:]) for array in arrays]
        lengths = [_length(shape) for shape in shapes]
        host = self._room(sum(lengths))
        for array, shape, part in zip(arrays, shapes, host.split(lengths), strict=True):
            view = part.view(shape).numpy()
            view[:b] = array
            view[b:] = 0
        there = host.to(self._device, non_blocking=self._is_pinned)
        return [p.view(s) for p, s in zip(there.split(lengths), shapes, strict=True)]

    def _room(self, length: int) -> Any:
        if self._buffer is None or len(self._buffer) < length:
            self._buffer = self._torch.empty(
                length, dtype=self._torch.float32, pin_memory=self._is_pinned
            )
        return self._buffer[:length]


def _length(shape: Sequence[int]) -> int:
    length = 1
    for size in shape:
        length *= size
    return length
