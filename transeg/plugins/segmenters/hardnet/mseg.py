"""HarDNet-MSEG: a simple encoder-decoder polyp segmenter.

Huang, Wu and Lin, 2021, arXiv:2101.07172. The reverse-attention branches and the ImageNet classifier that the
published code builds but never runs are left out: 17.4 of its 33.3 million parameters remain.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transeg.core.interfaces import Segmenter
from transeg.plugins.segmenters.hardnet.trunk import HarDNet


class ConvNorm(nn.Module):
    """Convolution and batch norm, without activation."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], dilation: int = 1) -> None:
        super().__init__()
        padding = (kernel[0] // 2 * dilation, kernel[1] // 2 * dilation)
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(x))
        return out


class ReceptiveField(nn.Module):
    """Four branches of growing field (RFB, arXiv:1711.07767, as PraNet thins it), summed with a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.branch0 = nn.Sequential(ConvNorm(inputs, outputs, (1, 1)))
        self.branch1 = _branch(inputs, outputs, 3)
        self.branch2 = _branch(inputs, outputs, 5)
        self.branch3 = _branch(inputs, outputs, 7)
        self.conv_cat = ConvNorm(4 * outputs, outputs, (3, 3))
        self.conv_res = ConvNorm(inputs, outputs, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        branches = (self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x))
        return F.relu(self.conv_cat(torch.cat(branches, 1)) + self.conv_res(x))


class Aggregation(nn.Module):
    """The cascaded partial decoder (arXiv:1904.08739), as PraNet thins it: three maps -> logits at the finest."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.conv_upsample1 = ConvNorm(width, width, (3, 3))
        self.conv_upsample2 = ConvNorm(width, width, (3, 3))
        self.conv_upsample3 = ConvNorm(width, width, (3, 3))
        self.conv_upsample4 = ConvNorm(width, width, (3, 3))
        self.conv_upsample5 = ConvNorm(2 * width, 2 * width, (3, 3))
        self.conv_concat2 = ConvNorm(2 * width, 2 * width, (3, 3))
        self.conv_concat3 = ConvNorm(3 * width, 3 * width, (3, 3))
        self.conv4 = ConvNorm(3 * width, 3 * width, (3, 3))
        self.conv5 = nn.Conv2d(3 * width, num_classes, 1)

    def forward(self, coarse: Tensor, middle: Tensor, fine: Tensor) -> Tensor:
        up_coarse = _double(coarse)
        gated_middle = self.conv_upsample1(up_coarse) * middle
        gated_fine = self.conv_upsample2(_double(up_coarse)) * self.conv_upsample3(_double(middle)) * fine
        joined = self.conv_concat2(torch.cat((gated_middle, self.conv_upsample4(up_coarse)), 1))
        joined = self.conv_concat3(torch.cat((gated_fine, self.conv_upsample5(_double(joined))), 1))
        logits: Tensor = self.conv5(self.conv4(joined))
        return logits


class HarDNetMSEG(Segmenter):
    """HarDNet-MSEG with a HarDNet backbone.

    Args:
        in_channels: channels of the image.
        num_classes: output channels.
        backbone: HarDNet variant; published with 68.
    """

    size_multiple = 32
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    key_map = (
        (r"^(module\.)+", ""),
        (r"^(encoder\.)?base\.", "hardnet.base."),
        (r"^hardnet\.base\.\d+\.3\.(weight|bias)$", None),
        (r"^(ra\d_conv\d|conv\d)\.", None),
    )

    def __init__(
        self, in_channels: int, num_classes: int, *, backbone: Literal["68", "85", "68ds", "39ds"] = "68"
    ) -> None:
        super().__init__()
        self.hardnet = HarDNet(in_channels, backbone)
        _, fine, middle, coarse = self.hardnet.out_channels
        self.rfb2_1 = ReceptiveField(fine, 32)
        self.rfb3_1 = ReceptiveField(middle, 32)
        self.rfb4_1 = ReceptiveField(coarse, 32)
        self.agg1 = Aggregation(32, num_classes)

    def forward(self, image: Tensor) -> Tensor:
        _, fine, middle, coarse = self.hardnet(image)
        logits = self.agg1(self.rfb4_1(coarse), self.rfb3_1(middle), self.rfb2_1(fine))
        return F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=False)


def _branch(inputs: int, outputs: int, size: int) -> nn.Sequential:
    return nn.Sequential(
        ConvNorm(inputs, outputs, (1, 1)),
        ConvNorm(outputs, outputs, (1, size)),
        ConvNorm(outputs, outputs, (size, 1)),
        ConvNorm(outputs, outputs, (3, 3), dilation=size),
    )


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
