"""Resampling with a [1, 3, 3, 1] low-pass filter with zero padding, in plain PyTorch.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", arXiv:1912.04958. Everything here is a
convolution, so it runs wherever PyTorch does and can be differentiated twice.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Filter(nn.Module):
    """The outer product of [1, 3, 3, 1] with itself, one for each channel; no part of a state dict.

    Args:
        gain: sum of the filter.
    """

    kernel: Tensor

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("kernel", (torch.outer(taps, taps) * (gain / 64))[None, None], persistent=False)

    def per_channel(self, x: Tensor) -> Tensor:
        """The filter for a depthwise convolution of ``x``."""
        return self.kernel.expand(x.shape[1], 1, -1, -1)


class Downsample(Filter):
    """Halve the resolution: ``(N, C, H, W) -> (N, C, H/2, W/2)``."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.per_channel(x), stride=2, padding=1, groups=x.shape[1])


class Upsample2x(Filter):
    """Double the resolution: ``(N, C, H, W) -> (N, C, 2H, 2W)``."""

    def __init__(self) -> None:
        super().__init__(gain=4.0)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.per_channel(x), stride=2, padding=1, groups=x.shape[1])


class Smooth(Filter):
    """Filter before a 3x3 convolution of stride 2 without padding: ``(N, C, H, W) -> (N, C, H + 1, W + 1)``."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.per_channel(x), padding=2, groups=x.shape[1])
