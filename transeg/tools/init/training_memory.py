"""How much memory a training step of a segmenter needs, without making it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def kept_for_backward(network: nn.Module, channels: int, size: int) -> int:
    """Bytes that the backward pass of one image needs of its forward pass, in float32.

    Nothing is computed: tensors of PyTorch's meta device have shapes alone.

    Args:
        network: takes ``(N, channels, size, size)``; it is moved to the meta device, and of no use afterwards.
        channels: of the images.
        size: their height and width in pixels.
    """
    kept: dict[int, int] = {}
    network = network.to("meta").train()
    weights = {id(parameter) for parameter in network.parameters()}

    def count(tensor: Tensor) -> Tensor:
        if id(tensor) not in weights:
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        output = network(torch.zeros(2, channels, size, size, device="meta"))
    del output
    return sum(kept.values()) // 2
