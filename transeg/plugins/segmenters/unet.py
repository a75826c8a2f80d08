"""U-Net with batch norm and padded convolutions.

Ronneberger, Fischer and Brox, MICCAI 2015, arXiv:1505.04597, in the form that zh320/medical-segmentation-pytorch
trains: 3x3 max pooling, 3x3 transposed convolutions, a head without bias. State-dict keys are that project's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from transeg.core.interfaces import Segmenter


class UNet(Segmenter):
    """U-Net of four stages.

    Args:
        in_channels: channels of the image.
        num_classes: output channels.
        width: channels of the first stage; each further one has twice as many.
    """

    size_multiple = 16
    key_map = ((r"^(module\.)+", ""),)

    def __init__(self, in_channels: int, num_classes: int, *, width: int = 32) -> None:
        super().__init__()
        self.down_stage1 = DownStage(in_channels, width)
        self.down_stage2 = DownStage(width, 2 * width)
        self.down_stage3 = DownStage(2 * width, 4 * width)
        self.down_stage4 = DownStage(4 * width, 8 * width)
        self.mid_stage = conv_block(8 * width, 16 * width)
        self.up_stage4 = UpStage(16 * width, 8 * width)
        self.up_stage3 = UpStage(8 * width, 4 * width)
        self.up_stage2 = UpStage(4 * width, 2 * width)
        self.up_stage1 = UpStage(2 * width, width)
        self.seg_head = nn.Conv2d(width, num_classes, 1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        x, skip1 = self.down_stage1(image)
        x, skip2 = self.down_stage2(x)
        x, skip3 = self.down_stage3(x)
        x, skip4 = self.down_stage4(x)
        x = self.up_stage4(self.mid_stage(x), skip4)
        x = self.up_stage3(x, skip3)
        x = self.up_stage2(x, skip2)
        logits: Tensor = self.seg_head(self.up_stage1(x, skip1))
        return logits


class DownStage(nn.Module):
    """Two convolutions, whose result is both kept and pooled."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = conv_block(inputs, outputs)
        self.pool = nn.MaxPool2d(3, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(x)
        return self.pool(x), x


class UpStage(nn.Module):
    """Learned upsampling, joined with what was kept, and two convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = Upsample(inputs, outputs)
        self.conv = conv_block(inputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        joined: Tensor = self.conv(torch.cat((self.up(x), skip), 1))
        return joined


class Upsample(nn.Module):
    """Transposed 3x3 convolution with stride 2, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up_conv = nn.Sequential(
            nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.up_conv(x)
        return out


def conv_block(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch norm and ReLU."""
    return nn.Sequential(_conv(inputs, outputs), _conv(outputs, outputs))


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )
