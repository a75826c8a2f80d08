"""Networks with their channels innermost in memory, and what must be kept from PyTorch there.

What it gains and what it costs: docs/decisions/memory-layout.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import convert_conv2d_weight_memory_format

from transeg.core.models.batch_norm import keep_batch_norms_exact

SAFE_CHANNELS = 32
"""A strided 1x1 convolution of fewer fails where channels are innermost; seen below 16, where CPUs have AVX2."""


def put_channels_last(network: nn.Module) -> None:
    """Keep weights, and so the images between layers, with their channels innermost; in place.

    Strided 1x1 convolutions of few channels get images in the usual order: the gradient of their weights would be
    written beyond its memory on a CPU (uxlfoundation/oneDNN#6035), where it ends the process or is wrong.
    """
    network.to(memory_format=torch.channels_last)
    _make_safe(network)


def put_segmenter_channels_last(segmenter: nn.Module) -> None:
    """The same of a segmenter's convolutions, which a CPU then trains faster; what passes through it follows them.

    One with norms of other classes than PyTorch's batch norm is left as it is: instance norm is slower so, and other
    batch norms would lose digits.
    """
    norms = [module for module in segmenter.modules() if isinstance(module, (_BatchNorm, nn.InstanceNorm2d))]
    if all(type(norm) is nn.BatchNorm2d for norm in norms):
        convert_conv2d_weight_memory_format(segmenter, torch.channels_last)
        _make_safe(segmenter)


def _make_safe(network: nn.Module) -> None:
    keep_batch_norms_exact(network)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and _is_unsafe(module):
            module.weight.data = _in_usual_order(module.weight.data)
            module.register_forward_pre_hook(lambda _, inputs: tuple(map(_in_usual_order, inputs)))


def laid_out_like(value: Tensor, weight: Tensor) -> Tensor:
    """What an optimizer or an average keeps of each number of a weight, in that weight's order.

    Fused steps go through both as they lie in memory, so that in another order each number would get another's.
    """
    if value.shape != weight.shape or value.stride() == weight.stride():
        return value
    return torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _is_unsafe(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == (1, 1) and conv.stride != (1, 1) and conv.in_channels < SAFE_CHANNELS


def _in_usual_order(x: Tensor) -> Tensor:
    """A copy: what has one channel or one pixel is in both orders at once, and PyTorch may take it for the other."""
    return x.clone(memory_format=torch.contiguous_format)
