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


class BasicConv(nn.Module):
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
        self.branch0 = nn.Sequential(BasicConv(inputs, outputs, (1, 1)))
        self.branch1 = _branch(inputs, outputs, 3)
        self.branch2 = _branch(inputs, outputs, 5)
        self.branch3 = _branch(inputs, outputs, 7)
        self.conv_cat = BasicConv(4 * outputs, outputs, (3, 3))
        self.conv_res = BasicConv(inputs, outputs, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        branches = (self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x))
        return F.relu(self.conv_cat(torch.cat(branches, 1)) + self.conv_res(x))


class Aggregation(nn.Module):
    """The cascaded partial decoder (arXiv:1904.08739), as PraNet thins it: three maps -> logits at the finest."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.conv_upsample1 = BasicConv(width, width, (3, 3))
        self.conv_upsample2 = BasicConv(width, width, (3, 3))
        self.conv_upsample3 = BasicConv(width, width, (3, 3))
        self.conv_upsample4 = BasicConv(width, width, (3, 3))
        self.conv_upsample5 = BasicConv(2 * width, 2 * width, (3, 3))
        self.conv_concat2 = BasicConv(2 * width, 2 * width, (3, 3))
        self.conv_concat3 = BasicConv(3 * width, 3 * width, (3, 3))
        self.conv4 = BasicConv(3 * width, 3 * width, (3, 3))
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

    Fast for its accuracy: it decodes from stride 8 alone, at about half the multiplications of a U-Net. Choose it for
    polyps, which it was made for, for video, and where a pretrained trunk is at hand: the published weights of the
    whole network and of its ImageNet backbone both load. Thin structures suffer from the coarse decoder.

    Args:
        in_channels: channels of the image.
        num_classes: output channels.
        backbone: HarDNet variant; published with 68. The others are larger (85), or lighter with depthwise
            convolutions (68ds, 39ds).
        aux: train the three maps that the decoder joins too, each through a head of its own; this is PraNet's lateral
            supervision (arXiv:2006.11392).
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
        self,
        in_channels: int,
        num_classes: int,
        *,
        backbone: Literal["68", "85", "68ds", "39ds"] = "68",
        aux: bool = False,
    ) -> None:
        super().__init__()
        self.hardnet = HarDNet(in_channels, backbone)
        _, fine, middle, coarse = self.hardnet.out_channels
        self.rfb2_1 = ReceptiveField(fine, 32)
        self.rfb3_1 = ReceptiveField(middle, 32)
        self.rfb4_1 = ReceptiveField(coarse, 32)
        self.agg1 = Aggregation(32, num_classes)
        self.aux_heads = nn.ModuleList(nn.Conv2d(32, num_classes, 1) for _ in range(3 if aux else 0))
        self.heads = 1 + len(self.aux_heads)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        _, fine, middle, coarse = self.hardnet(image)
        fields = (self.rfb2_1(fine), self.rfb3_1(middle), self.rfb4_1(coarse))
        logits = self.agg1(*reversed(fields))
        logits = F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=False)
        if not (self.training and self.aux_heads):
            return logits
        return [logits, *(head(x) for head, x in zip(self.aux_heads, fields, strict=True))]


def _branch(inputs: int, outputs: int, size: int) -> nn.Sequential:
    return nn.Sequential(
        BasicConv(inputs, outputs, (1, 1)),
        BasicConv(outputs, outputs, (1, size)),
        BasicConv(outputs, outputs, (size, 1)),
        BasicConv(outputs, outputs, (3, 3), dilation=size),
    )


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
