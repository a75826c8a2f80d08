"""Layers and schedules that several generators share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def to_float32(x: Tensor) -> Tensor:
    """In float32 where networks computed in 16 bits, which are too few for losses."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class InstanceNorm(nn.GroupNorm):
    """``(N, C, H, W) -> (N, C, H, W)``: instance norm without parameters, chosen by device.

    On a GPU it is PyTorch's own, which autocast leaves in 16 bits. Elsewhere it is a group norm of one channel each:
    PyTorch 2.15's own gives a wrong gradient on a CPU where the batch is one image and the gradient arrives in
    channels-last order. See docs/decisions/instance-norm.md.

    Args:
        channels: of its input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cuda" and x.shape[2:].numel() > 1:  # its own refuses a single pixel, which becomes zero
            return F.instance_norm(x, eps=self.eps)
        return super().forward(x)


def normed_relu(channels: int) -> tuple[nn.Module, nn.Module]:
    """Instance norm and ReLU."""
    return InstanceNorm(channels), nn.ReLU(inplace=True)


class ResidualBlock(nn.Module):
    """``x + norm(conv(relu(norm(conv(x)))))`` with 3x3 kernels and reflection padding."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            InstanceNorm(channels),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            InstanceNorm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv_block(x)
        return out


def normal_weights(module: nn.Module) -> None:
    """Weights of deviation 0.02 and zero biases, as CycleGAN and Pix2pix publish."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(part.weight, 0.0, 0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.02)


def linear_decay(progress: float, constant: int, decay: int) -> float:
    """1 for ``constant`` epochs, then down by equal steps so that it would be 0 one epoch after the last.

    Args:
        progress: share of the training, in [0, 1).
        constant: published epochs without decay.
        decay: published epochs with it.
    """
    epoch = int(progress * (constant + decay) + 1e-9) + 1
    return 1.0 - max(0, epoch - constant) / (decay + 1)
