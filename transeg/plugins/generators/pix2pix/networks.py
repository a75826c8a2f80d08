"""The networks of Pix2pix: a U-Net generator and a patch discriminator.

Children are laid out so that state-dict keys are the published ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transeg.plugins.generators.layers import InstanceNorm, normal_weights

Norm = Literal["batch", "instance", "group"]
WIDEST = 8
"""No level has more than this times the channels of the first."""


@dataclass(frozen=True)
class Style:
    """How the levels of a generator are built.

    Attributes:
        norm: which normalisation.
        per_image: whether batch norm takes each image's own statistics in eval mode.
        upsampling: by transposed convolutions, or by repeating pixels before a convolution.
        dropout: probability after the levels of the greatest width, except for the innermost and the outermost of them.
    """

    norm: Norm
    per_image: bool
    upsampling: Literal["transposed", "resize"]
    dropout: float


class UNetGenerator(nn.Module):
    """``(N, C, H, W) -> (N, C', H, W)`` in [-1, 1]; H and W multiples of ``2 ** depth``.

    Args:
        in_channels: channels of the condition.
        out_channels: channels of the result.
        width: channels of the first level.
        depth: how often the resolution is halved.
        style: of the levels.
    """

    def __init__(self, in_channels: int, out_channels: int, width: int, depth: int, style: Style) -> None:
        super().__init__()
        channels = [width * min(WIDEST, 2**level) for level in range(depth)]
        level = _innermost(channels[-2], channels[-1], style)
        for outer, inner in zip(channels[-3::-1], channels[-2:0:-1], strict=True):
            level = _middle(outer, inner, level, style)
        self.model = _outermost(in_channels, channels[0], out_channels, level, style)
        normal_weights(self)

    def forward(self, x: Tensor, draws: Sequence[torch.Generator] | None) -> Tensor:
        """Translate.

        Args:
            x: the condition.
            draws: a random generator for each image, which dropout draws from; None for no dropout.
        """
        out: Tensor = self.model(x, draws)
        return out


class UNetLevel(nn.Module):
    """A halving, what lies within, a doubling; all but the outermost put their input beside the result.

    Args:
        layers: in order, with the next inner level among them.
        skips: whether the input is put first among the channels.
    """

    def __init__(self, layers: Sequence[nn.Module], skips: bool = True) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)
        self._skips = skips

    def forward(self, x: Tensor, draws: Sequence[torch.Generator] | None) -> Tensor:
        inner = x
        for layer in self.model:
            inner = layer(inner, draws) if isinstance(layer, (UNetLevel, Dropout)) else layer(inner)
        return torch.cat((x, inner), 1) if self._skips else inner


class Dropout(nn.Module):
    """Dropout whose draws belong to the images, so that equal draws give equal results in any batch.

    Args:
        probability: of an element to be zero.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self._probability = probability

    def forward(self, x: Tensor, draws: Sequence[torch.Generator] | None) -> Tensor:
        if draws is None or self._probability == 0:
            return x
        chance = torch.stack([torch.rand(x.shape[1:], generator=draw, device=x.device) for draw in draws])
        return x * (chance >= self._probability) / (1 - self._probability)


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that can normalise each image by its own statistics in eval mode.

    That is what the published test of a network trained on single images does.

    Args:
        channels: of its input.
        per_image: whether to do so; otherwise eval mode uses the running statistics.
    """

    def __init__(self, channels: int, per_image: bool) -> None:
        super().__init__(channels)
        self._per_image = per_image

    def forward(self, x: Tensor) -> Tensor:
        if self.training or not self._per_image:
            return super().forward(x)
        return F.group_norm(x, self.num_features, self.weight, self.bias, self.eps)


class PatchDiscriminator(nn.Module):
    """``(N, C + C', H, W)`` -> one logit for each 70x70 patch (30x30 of them at 256x256).

    Args:
        in_channels: channels of condition and image together.
        width: channels of the first layer.
        norm: which normalisation.
    """

    def __init__(self, in_channels: int, width: int, norm: Norm) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        for factor in (2, 4, 8):
            stride = 1 if factor == 8 else 2
            layers += [
                nn.Conv2d(factor // 2 * width, factor * width, 4, stride, 1, bias=norm == "instance"),
                normalisation(norm, factor * width),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.model = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))
        normal_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out


def normalisation(norm: Norm, channels: int, per_image: bool = False) -> nn.Module:
    """A normalisation by name; groups are of at most 32."""
    if norm == "batch":
        return BatchNorm(channels, per_image)
    return InstanceNorm(channels) if norm == "instance" else nn.GroupNorm(math.gcd(32, channels), channels)


def _outermost(in_channels: int, width: int, out_channels: int, level: UNetLevel, style: Style) -> UNetLevel:
    up = _up(2 * width, out_channels, style, bias=True)
    return UNetLevel([_down(in_channels, width, style), level, nn.ReLU(inplace=True), up, nn.Tanh()], skips=False)


def _middle(outer: int, inner: int, level: UNetLevel, style: Style) -> UNetLevel:
    layers = [
        nn.LeakyReLU(0.2, inplace=True),
        _down(outer, inner, style),
        normalisation(style.norm, inner, style.per_image),
        level,
        nn.ReLU(inplace=True),
        _up(2 * inner, outer, style, bias=style.norm == "instance"),
        normalisation(style.norm, outer, style.per_image),
    ]
    return UNetLevel([*layers, Dropout(style.dropout)] if inner == outer else layers)


def _innermost(outer: int, inner: int, style: Style) -> UNetLevel:
    return UNetLevel(
        [
            nn.LeakyReLU(0.2, inplace=True),
            _down(outer, inner, style),
            nn.ReLU(inplace=True),
            _up(inner, outer, style, bias=style.norm == "instance"),
            normalisation(style.norm, outer, style.per_image),
        ]
    )


def _down(in_channels: int, out_channels: int, style: Style) -> nn.Module:
    return nn.Conv2d(in_channels, out_channels, 4, 2, 1, bias=style.norm == "instance")


def _up(in_channels: int, out_channels: int, style: Style, *, bias: bool) -> nn.Module:
    if style.upsampling == "transposed":
        return nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1, bias=bias)
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(in_channels, out_channels, 3, 1, 1, bias=bias))
