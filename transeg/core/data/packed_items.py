"""A batch of samples on its way from a loader's worker to a GPU, in one piece of memory."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Place = tuple[torch.dtype, torch.Size, int]
"""Of a tensor in the memory that a batch has: its type, its shape, and the byte where it begins."""

ALIGNMENT = 64
"""Tensors begin at multiples of so many bytes."""


class PackedItems(list[T]):
    """A list whose tensors, wherever in its items they are, another process gets as parts of one.

    By itself, PyTorch shares each tensor for itself, and each takes a file descriptor for as long as anybody has it: a
    few batches of 64 images and masks in the queue are more than the 1,024 that a process may have on many machines.
    """

    def __reduce__(self) -> tuple[Callable[[bytes, Tensor], PackedItems[T]], tuple[bytes, Tensor]]:
        return _unpacked, self._packed(pinned=False)

    def pin_memory(self) -> PackedItems[T]:
        """The items in memory that a GPU copies from while others compute; PyTorch's loader calls it."""
        return _unpacked(*self._packed(pinned=True))

    def _packed(self, *, pinned: bool) -> tuple[bytes, Tensor]:
        """The items without their tensors, pickled, and the memory that these are copied to."""
        file = io.BytesIO()
        packer = _Packer(file, pickle.HIGHEST_PROTOCOL)
        packer.dump(list(self))
        memory = torch.empty(packer.size, dtype=torch.uint8, pin_memory=pinned)
        for tensor, place in packer.packed:
            _part(memory, place).copy_(tensor)
        return file.getvalue(), memory


class _Packer(pickle.Pickler):
    """Pickles all but tensors, to which it gives places.

    Attributes:
        packed: the tensors with their places.
        size: bytes that they take.
    """

    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol)
        self.packed: list[tuple[Tensor, Place]] = []
        self.size = 0

    def persistent_id(self, value: Any) -> Place | None:
        if not isinstance(value, Tensor):
            return None
        place = value.dtype, value.shape, self.size
        self.packed.append((value, place))
        self.size += -(-value.nbytes // ALIGNMENT) * ALIGNMENT
        return place


class _Unpacker(pickle.Unpickler):
    """Puts the parts of a memory where tensors were."""

    def __init__(self, file: io.BytesIO, memory: Tensor) -> None:
        super().__init__(file)
        self._memory = memory

    def persistent_load(self, place: Place) -> Tensor:
        return _part(self._memory, place)


def _unpacked(pickled: bytes, memory: Tensor) -> PackedItems[Any]:
    return PackedItems(_Unpacker(io.BytesIO(pickled), memory).load())


def _part(memory: Tensor, place: Place) -> Tensor:
    dtype, shape, begin = place
    return memory[begin : begin + math.prod(shape) * dtype.itemsize].view(dtype).view(shape)
