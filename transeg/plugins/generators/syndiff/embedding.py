"""How a step's number and a latent vector enter the networks, and how these are initialised."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def sinusoids(step: Tensor, dimensions: int, dtype: torch.dtype) -> Tensor:
    """Numbers of steps ``(N,)`` -> ``(N, dimensions)``: sines, then cosines, of falling frequency.

    Vaswani et al., arXiv:1706.03762, with the last frequency at 1/10000. They are computed in float32 whatever the
    networks' precision, as published.
    """
    half = dimensions // 2
    frequencies = torch.exp(torch.arange(half, device=step.device) * (-math.log(10000) / (half - 1)))
    angles = step.float()[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), 1).to(dtype)


class PixelNorm(nn.Module):
    """Scale each row to a mean square of one."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def scaled_uniform(weight: Tensor, scale: float = 1.0) -> None:
    """Uniform weights of variance ``scale`` / average fan, in place; a scale of 1e-10 is as good as zero."""
    nn.init.xavier_uniform_(weight, gain=math.sqrt(scale))


def init_uniform(network: nn.Module) -> None:
    """Uniform weights of variance 1 / average fan and zero biases, in every convolution and linear layer."""
    for part in network.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            scaled_uniform(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
