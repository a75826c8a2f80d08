"""Layers that several segmenters share."""

from __future__ import annotations

from torch import nn


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
