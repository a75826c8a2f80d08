"""Layers that several segmenters share."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn


def conv_norm(
    inputs: int,
    outputs: int,
    kernel: int | tuple[int, int] = 3,
    stride: int = 1,
    dilation: int = 1,
    activation: nn.Module | None = None,
) -> nn.Sequential:
    """Convolution without bias, batch norm, activation (ReLU unless another is given).

    Odd kernels keep the size at stride 1; an even one is not padded.
    """
    rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = ((rows - 1) // 2 * dilation, (columns - 1) // 2 * dilation)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, (rows, columns), stride, padding, dilation, bias=False),
        nn.BatchNorm2d(outputs),
        activation or nn.ReLU(inplace=True),
    )


def conv_block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch norm and ReLU."""
    return nn.Sequential(conv_norm(inputs, outputs, stride=stride), conv_norm(outputs, outputs))


def norm_conv_block(
    inputs: int, outputs: int, stride: int = 1, *, bias: bool = False, first: bool = False
) -> nn.Sequential:
    """Two 3x3 convolutions with batch norm and ReLU before each (arXiv:1603.05027), but not before the image."""
    before = [] if first else [nn.BatchNorm2d(inputs), nn.ReLU(inplace=True)]
    return nn.Sequential(
        *before,
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, 1, 1, bias=bias),
    )


def resize_to(x: Tensor, like: Tensor, mode: str) -> Tensor:
    """The map at the size of another; `bilinear` holds the corners in place (``align_corners``)."""
    return F.interpolate(x, size=like.shape[2:], mode=mode, align_corners=True if mode == "bilinear" else None)


def init_keras(network: nn.Module, weights: Callable[[Tensor], Tensor] = nn.init.xavier_uniform_) -> None:
    """Begin as Keras does, with biases of zero: by default from Glorot's uniform weights."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            weights(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
