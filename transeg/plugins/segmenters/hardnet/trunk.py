"""HarDNet: a low-memory-traffic network (Chao, Kao, Ruan, Huang and Lin, ICCV 2019, arXiv:1909.00948).

State-dict keys are the published ones (``base.0.conv.weight``, ``base.3.layers.1.norm.bias``, ...).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """One published network; the lists have one entry for each harmonic dense block."""

    stem: tuple[int, int]
    widths: tuple[int, ...]
    growths: tuple[int, ...]
    depths: tuple[int, ...]
    multiplier: float
    pooled: frozenset[int]
    """Blocks that a pooling step follows."""
    depthwise: bool = False
    dropout: bool = False
    """Whether dropout comes before the last transition; it shifts the keys after it."""


LAYOUTS = {
    "68": Layout(
        (32, 64), (128, 256, 320, 640, 1024), (14, 16, 20, 40, 160), (8, 16, 16, 16, 4), 1.7, frozenset({0, 2, 3})
    ),
    "85": Layout(
        (48, 96),
        (192, 256, 320, 480, 720, 1280),
        (24, 24, 28, 36, 48, 256),
        (8, 16, 16, 16, 16, 4),
        1.7,
        frozenset({0, 2, 4}),
        dropout=True,
    ),
    "68ds": Layout(
        (32, 64),
        (128, 256, 320, 640, 1024),
        (14, 16, 20, 40, 160),
        (8, 16, 16, 16, 4),
        1.7,
        frozenset({0, 2, 3}),
        depthwise=True,
    ),
    "39ds": Layout(
        (24, 48), (96, 320, 640, 1024), (16, 20, 64, 160), (4, 16, 8, 4), 1.6, frozenset({0, 1, 2}), depthwise=True
    ),
}


class ConvNormReLU(nn.Module):
    """Convolution, batch norm, ReLU6."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.norm(self.conv(x)))
        return out


class DepthwiseConv(nn.Module):
    """3x3 depthwise convolution and batch norm, without activation."""

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.dwconv(x))
        return out


class SeparableConv(nn.Sequential):
    """Pointwise convolution with batch norm and ReLU6, then a depthwise one."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer1 = ConvNormReLU(inputs, outputs, kernel=1)
        self.layer2 = DepthwiseConv(outputs)


def links(layer: int) -> list[int]:
    """The layers that feed a layer: those 2^i before it, for every 2^i that divides its number, nearest first."""
    return [layer - 2**i for i in range(layer.bit_length()) if layer % 2**i == 0]


def layer_channels(layer: int, growth: int, multiplier: float) -> int:
    """Output channels: the growth, times the multiplier for each factor 2 of the layer's number, made even."""
    channels = float(growth)
    while layer % 2 == 0:
        channels *= multiplier
        layer //= 2
    return int(int(channels + 1) / 2) * 2


class HarmonicBlock(nn.Module):
    """A harmonic dense block; its output joins the odd layers and the last."""

    def __init__(self, inputs: int, growth: int, multiplier: float, depth: int, depthwise: bool) -> None:
        super().__init__()
        channels = [inputs, *(layer_channels(i, growth, multiplier) for i in range(1, depth + 1))]
        self.links = [links(i) for i in range(1, depth + 1)]
        self.outputs = [i for i in range(1, depth + 1) if i % 2 == 1 or i == depth]
        self.out_channels = sum(channels[i] for i in self.outputs)
        make = SeparableConv if depthwise else ConvNormReLU
        self.layers = nn.ModuleList(
            make(sum(channels[i] for i in sources), channels[layer])
            for layer, sources in enumerate(self.links, start=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        done = [x]
        for layer, sources in zip(self.layers, self.links, strict=True):
            inputs = [done[i] for i in sources]
            done.append(layer(inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1)))
        return torch.cat([done[i] for i in self.outputs], 1)


class HarDNet(nn.Module):
    """The feature extractor: ``(N, C, H, W)`` -> four maps at strides 4, 8, 16 and 32.

    Args:
        in_channels: channels of the image.
        layout: name of the published network: 68, 85, 68ds or 39ds.
    """

    def __init__(self, in_channels: int, layout: str) -> None:
        super().__init__()
        plan = LAYOUTS[layout]
        first, second = plan.stem
        layers: list[nn.Module] = [
            ConvNormReLU(in_channels, first, stride=2),
            ConvNormReLU(first, second, kernel=1 if plan.depthwise else 3),
            DepthwiseConv(second, stride=2) if plan.depthwise else nn.MaxPool2d(3, 2, 1),
        ]
        channels = second
        self.taps: list[int] = []
        self.out_channels: list[int] = []
        last = len(plan.widths) - 1
        for index, width in enumerate(plan.widths):
            block = HarmonicBlock(channels, plan.growths[index], plan.multiplier, plan.depths[index], plan.depthwise)
            layers.append(block)
            if plan.dropout and index == last:
                layers.append(nn.Dropout(0.1))
            layers.append(ConvNormReLU(block.out_channels, width, kernel=1))
            channels = width
            if index in plan.pooled or index == last:
                self.taps.append(len(layers) - 1)
                self.out_channels.append(width)
            if index in plan.pooled:
                layers.append(DepthwiseConv(width, stride=2) if plan.depthwise else nn.MaxPool2d(2))
        self.base = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for index, layer in enumerate(self.base):
            x = layer(x)
            if index in self.taps:
                maps.append(x)
        return maps
