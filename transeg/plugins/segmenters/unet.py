"""U-Net: a contracting and an expanding path joined at every resolution.

Ronneberger, Fischer and Brox, MICCAI 2015, arXiv:1505.04597.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from transeg.core.interfaces import Segmenter
from transeg.plugins.segmenters.layers import conv_block


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


def plain_block(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions with bias, each with ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
    )


@dataclass(frozen=True)
class UNetVariant:
    """What the variants of a U-Net are made of."""

    block: Callable[[int, int], nn.Sequential]
    up: Callable[[int, int], nn.Module]
    pool: Callable[[], nn.Module]
    head: Callable[[int, int], nn.Module]
    """A 1x1 convolution from features to logits."""


NORMED = UNetVariant(
    block=conv_block,
    up=Upsample,
    pool=partial(nn.MaxPool2d, kernel_size=3, stride=2, padding=1),
    head=partial(nn.Conv2d, kernel_size=1, bias=False),
)
"""Those of zh320/medical-segmentation-pytorch."""

PLAIN = UNetVariant(
    block=plain_block,
    up=partial(nn.ConvTranspose2d, kernel_size=2, stride=2),
    pool=partial(nn.MaxPool2d, kernel_size=2),
    head=partial(nn.Conv2d, kernel_size=1),
)
"""Those of the papers."""


def draw_he(module: nn.Module) -> None:
    """Draw a convolution's weights with the standard deviation sqrt(2 / N), N the inputs of one output value.

    He, Zhang, Ren and Sun, ICCV 2015, arXiv:1502.01852. Of the 2x2 taps of an up-convolution with stride 2 one falls
    on each output value.
    """
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        taps = 1 if isinstance(module, nn.ConvTranspose2d) else module.kernel_size[0] * module.kernel_size[1]
        nn.init.normal_(module.weight, std=(2 / (module.in_channels * taps)) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class DownStage(nn.Module):
    """Two convolutions, whose result is both kept and pooled."""

    def __init__(self, inputs: int, outputs: int, parts: UNetVariant) -> None:
        super().__init__()
        self.conv = parts.block(inputs, outputs)
        self.pool = parts.pool()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(x)
        return self.pool(x), x


class UpStage(nn.Module):
    """Learned upsampling, joined with what was kept, and two convolutions."""

    def __init__(self, inputs: int, outputs: int, parts: UNetVariant) -> None:
        super().__init__()
        self.up = parts.up(inputs, outputs)
        self.conv = parts.block(inputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        joined: Tensor = self.conv(torch.cat((self.up(x), skip), 1))
        return joined


class UNet(Segmenter):
    """U-Net of four stages.

    The plain, reliable baseline: choose it first, and when a result must be comparable with most of the literature.
    Networks on a pretrained trunk (`smp`, `timm-unet`, `hardnet`) learn faster from few labels.

    The variant `zh320` is the form that zh320/medical-segmentation-pytorch trains, with batch norm, 3x3 max pooling,
    3x3 transposed convolutions and a head without bias; its checkpoints load. The variant `paper` is the published
    network (arXiv:1505.04597): no batch norm, 2x2 pooling, 2x2 up-convolutions, dropout of one half (the rate of the
    authors' release) at the end of the contracting path, and weights drawn as He et al. do. One thing departs from
    it: convolutions are padded, so that the logits have the size of the image, where the published ones lose 92
    pixels at each edge.

    Args:
        in_channels: channels of the image.
        num_classes: output channels.
        base: channels of the first stage; each further one has twice as many. By default 32 (`zh320`) or 64 (`paper`).
        variant: `zh320`, with batch norm, or `paper`, as first published.
        aux: train the three coarser stages of the expanding path too, each through a head of its own.

    Raises:
        ValueError: base is not positive.
    """

    size_multiple = 16
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
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
        parts = PLAIN if variant == "paper" else NORMED
        width = (64 if variant == "paper" else 32) if base is None else base
        if width < 1:
            raise ValueError(f"base must be at least 1, not {base}")
        self.down_stage1 = DownStage(in_channels, width, parts)
        self.down_stage2 = DownStage(width, 2 * width, parts)
        self.down_stage3 = DownStage(2 * width, 4 * width, parts)
        self.down_stage4 = DownStage(4 * width, 8 * width, parts)
        self.mid_stage = parts.block(8 * width, 16 * width)
        self.up_stage4 = UpStage(16 * width, 8 * width, parts)
        self.up_stage3 = UpStage(8 * width, 4 * width, parts)
        self.up_stage2 = UpStage(4 * width, 2 * width, parts)
        self.up_stage1 = UpStage(2 * width, width, parts)
        self.seg_head = parts.head(width, num_classes)
        self.aux_heads = nn.ModuleList(parts.head(n * width, num_classes) for n in ((2, 4, 8) if aux else ()))
        self.heads = 1 + len(self.aux_heads)
        if variant == "paper":
            self.mean, self.std = Segmenter.mean, Segmenter.std
            self.down_stage4.conv.append(nn.Dropout(0.5))
            self.mid_stage.append(nn.Dropout(0.5))
            self.apply(draw_he)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        x, skip1 = self.down_stage1(image)
        x, skip2 = self.down_stage2(x)
        x, skip3 = self.down_stage3(x)
        x, skip4 = self.down_stage4(x)
        eighth = self.up_stage4(self.mid_stage(x), skip4)
        quarter = self.up_stage3(eighth, skip3)
        half = self.up_stage2(quarter, skip2)
        logits: Tensor = self.seg_head(self.up_stage1(half, skip1))
        if not (self.training and self.aux_heads):
            return logits
        return [logits, *(head(x) for head, x in zip(self.aux_heads, (half, quarter, eighth), strict=True))]
