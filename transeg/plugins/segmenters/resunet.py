"""ResUNet: a U-Net of residual units.

Zhang, Liu and Wang, IEEE GRSL 15(5), 2018, arXiv:1711.10684.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from transeg.core.interfaces import Segmenter
from transeg.plugins.segmenters.layers import conv_block, init_keras, norm_conv_block, resize_to


class ResidualUnit(nn.Module):
    """Two convolutions and their shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, conv: nn.Module, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = conv
        same = inputs == outputs and stride == 1
        self.conv_skip = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x) + self.conv_skip(x)
        return out


class ResUNet(Segmenter):
    """ResUNet: four levels of residual units, three of which halve the image.

    Choose it where a small network must learn from scratch: at `base=32` it has a quarter of U-Net's parameters at
    that width. It sees less of its surroundings than networks that halve four or five times, so that large objects
    are harder for it.

    Two networks bear the name. `zh320` is that of zh320/medical-segmentation-pytorch, and takes its weights. It
    departs from the paper: norm and ReLU come after each convolution rather than before it, the coarser map is
    enlarged bilinearly, the usual width is half. `paper` follows the description in the paper: units of norm, ReLU,
    convolution. Where that is silent (how maps are enlarged, what the shortcut is where the shape changes, what the
    weights begin with), it has nearest-neighbour enlarging, a 1x1 convolution, and Keras's default, Glorot's weights.

    Args:
        in_channels: channels of the image.
        num_classes: output channels.
        base: channels of the first level; each further one has twice as many. By default 32 for zh320, 64 for paper.
        variant: which network: zh320's or the paper's.
        aux: adds a 1x1 head to each of the two coarser decoder stages, for training alone.
    """

    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    key_map = ((r"^(module\.)+", ""),)

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        base: int | None = None,
        variant: Literal["zh320", "paper"] = "zh320",
        aux: bool = False,
    ) -> None:
        super().__init__()
        paper = variant == "paper"
        width = (64 if paper else 32) if base is None else base
        if width < 1:
            raise ValueError(f"base must be at least 1, not {width}")
        unit = _unit_of_paper if paper else _unit
        self.encoding1 = _unit_of_paper(in_channels, width, first=True) if paper else _unit(in_channels, width)
        self.encoding2 = unit(width, 2 * width, stride=2)
        self.encoding3 = unit(2 * width, 4 * width, stride=2)
        self.bridge = unit(4 * width, 8 * width, stride=2)
        self.decoding3 = unit(12 * width, 4 * width)
        self.decoding2 = unit(6 * width, 2 * width)
        self.decoding1 = unit(3 * width, width)
        self.seg_head = nn.Conv2d(width, num_classes, 1, bias=paper)
        self.aux_heads = nn.ModuleList(
            nn.Conv2d(factor * width, num_classes, 1, bias=paper) for factor in ((2, 4) if aux else ())
        )
        self.heads = 1 + len(self.aux_heads)
        self.enlarging = "nearest" if paper else "bilinear"
        if paper:
            init_keras(self)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        skip1 = self.encoding1(image)
        skip2 = self.encoding2(skip1)
        skip3 = self.encoding3(skip2)
        up3 = self.decoding3(self._joined(self.bridge(skip3), skip3))
        up2 = self.decoding2(self._joined(up3, skip2))
        logits: Tensor = self.seg_head(self.decoding1(self._joined(up2, skip1)))
        if not self.training or not self.aux_heads:
            return logits
        return [logits, *(head(x) for head, x in zip(self.aux_heads, (up2, up3), strict=True))]

    def _joined(self, x: Tensor, skip: Tensor) -> Tensor:
        return torch.cat((resize_to(x, skip, self.enlarging), skip), 1)


def _unit(inputs: int, outputs: int, stride: int = 1) -> ResidualUnit:
    return ResidualUnit(conv_block(inputs, outputs, stride), inputs, outputs, stride)


def _unit_of_paper(inputs: int, outputs: int, stride: int = 1, first: bool = False) -> ResidualUnit:
    return ResidualUnit(norm_conv_block(inputs, outputs, stride, first=first), inputs, outputs, stride)
