"""The U-Net of a brief revisit to medical image segmentation.

https://github.com/aribryan/segmentation_revisit, after Ronneberger, Fischer and Brox, MICCAI 2015, arXiv:1505.04597.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transeg.core.interfaces import Segmenter

SMALLEST = 16
"""Sides below it would vanish in the four pooling steps."""


class DoubleConv(nn.Module):
    """Two 3x3 convolutions with bias, each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class PoolStage(nn.Module):
    """2x2 max pooling, which drops an odd last row and column, and two convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = DoubleConv(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.max_pool2d(x, 2))
        return out


class Raise(nn.Module):
    """2x2 up-convolution, padded with zeros around to the size of what it will join."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up_scale = nn.ConvTranspose2d(inputs, outputs, 2, stride=2)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up_scale(x)
        rows, columns = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
        return F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


class UpConvStage(nn.Module):
    """What came from below, raised and joined with what was kept, and two convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = Raise(inputs, outputs)
        self.conv = DoubleConv(inputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        joined: Tensor = self.conv(torch.cat((self.up(x, skip), skip), 1))
        return joined


class RevisitUNet(Segmenter):
    """U-Net with batch norm that pads inside, published for counting nuclei in stained tissue.

    Choose it to repeat that work or to load its checkpoints, and where images of odd sizes must not be padded at
    their edge: sizes that are no multiple of 16 are made up for at each resolution by rows and columns of zeros.
    Otherwise `unet` is the same idea with cheaper options.

    Published with 64 channels (the released checkpoint and its inference) and with 32 (the default of its training).

    Args:
        in_channels: channels of the image.
        num_classes: output channels.
        base: channels of the first stage; each further one has twice as many.
        aux: train the three coarser stages of the expanding path too, each through a head of its own.

    Raises:
        ValueError: base is not positive.
    """

    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    key_map = ((r"^(module\.)+", ""),)

    def __init__(self, in_channels: int, num_classes: int, *, base: int = 64, aux: bool = False) -> None:
        super().__init__()
        if base < 1:
            raise ValueError(f"base must be at least 1, not {base}")
        self.conv1 = DoubleConv(in_channels, base)
        self.down1 = PoolStage(base, 2 * base)
        self.down2 = PoolStage(2 * base, 4 * base)
        self.down3 = PoolStage(4 * base, 8 * base)
        self.down4 = PoolStage(8 * base, 16 * base)
        self.up1 = UpConvStage(16 * base, 8 * base)
        self.up2 = UpConvStage(8 * base, 4 * base)
        self.up3 = UpConvStage(4 * base, 2 * base)
        self.up4 = UpConvStage(2 * base, base)
        self.last_conv = nn.Conv2d(base, num_classes, 1)
        self.aux_heads = nn.ModuleList(nn.Conv2d(n * base, num_classes, 1) for n in ((2, 4, 8) if aux else ()))
        self.heads = 1 + len(self.aux_heads)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        height, width = image.shape[2:]
        if height < SMALLEST or width < SMALLEST:
            image = F.pad(image, (0, max(0, SMALLEST - width), 0, max(0, SMALLEST - height)), mode="replicate")
        full = self.conv1(image)
        half = self.down1(full)
        quarter = self.down2(half)
        eighth = self.down3(quarter)
        eighth = self.up1(self.down4(eighth), eighth)
        quarter = self.up2(eighth, quarter)
        half = self.up3(quarter, half)
        logits: Tensor = self.last_conv(self.up4(half, full))[:, :, :height, :width]
        if not (self.training and self.aux_heads):
            return logits
        return [logits, *(head(x) for head, x in zip(self.aux_heads, (half, quarter, eighth), strict=True))]
