"""ResUNet++: residual units, squeeze and excitation, atrous pyramid pooling and attention in one U-Net.

Jha, Smedsrud, Riegler, Johansen, de Lange, Halvorsen and Johansen, ISM 2019, arXiv:1911.07067.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transeg.core.interfaces import Segmenter
from transeg.plugins.segmenters.layers import conv_block, conv_norm, init_keras, norm_conv_block, resize_to


class SqueezeExcite(nn.Module):
    """Scales each channel by what all of them are on average (arXiv:1709.01507)."""

    def __init__(self, channels: int, reduction: int, bias: bool) -> None:
        super().__init__()
        self.se_block = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=bias),
            nn.ReLU(inplace=True),
            nn.Linear(channels // reduction, channels, bias=bias),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        scale: Tensor = self.se_block(x.mean((2, 3)))
        return x * scale[:, :, None, None]


class PooledNorm(nn.BatchNorm2d):
    """Batch norm of maps of one pixel, which may be alone in their batch.

    One image gives one value for each channel: that has no variance, and PyTorch's batch norm refuses it in training.
    Such a batch is normalised by the running statistics, as in evaluation. The choice hangs on a shape, never on
    values, so that the network can still be exported and compiled.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.shape[0] == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class EncodingBlock(nn.Module):
    """Halves the map; returns it squeezed, to go on with, and as it was before, to keep."""

    def __init__(self, inputs: int, outputs: int, squeeze: bool = True) -> None:
        super().__init__()
        self.conv = conv_block(inputs, outputs, stride=2)
        self.conv_skip = conv_norm(inputs, outputs, kernel=1, stride=2)
        self.se = SqueezeExcite(outputs, 16, bias=True) if squeeze else nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = self.conv(x) + self.conv_skip(x)
        return self.se(total), total


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (arXiv:1706.05587): joins four dilations and the average of all."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        hidden = outputs // 5
        norm = nn.Sequential(nn.Conv2d(inputs, hidden, 1, bias=False), PooledNorm(hidden), nn.ReLU(inplace=True))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), norm)
        self.dilated_convs = nn.ModuleList(conv_norm(inputs, hidden, dilation=rate) for rate in (1, 6, 12, 18))
        self.conv = conv_norm(5 * hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        average = self.pool(x).expand(-1, -1, *x.shape[2:])
        joined: Tensor = self.conv(torch.cat((average, *(conv(x) for conv in self.dilated_convs)), 1))
        return joined


class AttentionGate(nn.Module):
    """Weighs the places of a map by itself and by what was kept from the encoder."""

    def __init__(self, channels: int, kept: int) -> None:
        super().__init__()
        self.conv_x = conv_norm(channels, 128)
        self.conv_g = conv_norm(kept, 128)
        self.conv = conv_norm(128, 1, activation=nn.Sigmoid())

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        weight: Tensor = self.conv(self.conv_x(x) + self._shown(kept, x))
        return x * weight

    def _shown(self, kept: Tensor, x: Tensor) -> Tensor:
        """What was kept, convolved, at every second place of it.

        A network that was folded for inference computes no others. Before, batch statistics and whoever looks at layers
        want them all, and so do graphs for images of any size, which may be odd.
        """
        conv, norm, activation = self.conv_g
        if (
            isinstance(norm, nn.BatchNorm2d)
            or torch.compiler.is_exporting()
            or torch._C._get_tracing_state()
            or [*kept.shape[2:]] != [2 * length for length in x.shape[2:]]
        ):
            return resize_to(self.conv_g(kept), x, "nearest")
        conv = cast("nn.Conv2d", conv)
        shown: Tensor = activation(F.conv2d(kept, conv.weight, conv.bias, stride=2, padding=1))
        return shown


class DecodingBlock(nn.Module):
    """Attention, doubling, and a residual unit on the map and what was kept."""

    def __init__(self, channels: int, kept: int, outputs: int) -> None:
        super().__init__()
        self.att = AttentionGate(channels, kept)
        self.conv = conv_block(channels + kept, outputs)
        self.conv_skip = conv_norm(channels + kept, outputs, kernel=1)

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        joined = torch.cat((resize_to(self.att(x, kept), kept, "bilinear"), kept), 1)
        out: Tensor = self.conv(joined) + self.conv_skip(joined)
        return out


class PaperUnit(nn.Module):
    """A residual unit with norms before its convolutions, then squeeze and excitation."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, first: bool = False) -> None:
        super().__init__()
        self.conv = norm_conv_block(inputs, outputs, stride, bias=True, first=first)
        self.conv_skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
        self.se = SqueezeExcite(outputs, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.se(self.conv(x) + self.conv_skip(x))
        return out


class PaperEncodingBlock(nn.Module):
    """A unit whose output both goes on and is kept."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, first: bool = False) -> None:
        super().__init__()
        self.unit = PaperUnit(inputs, outputs, stride, first)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.unit(x)
        return x, x


class PaperASPP(nn.Module):
    """Atrous spatial pyramid pooling: sums four dilations."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dilated_convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=rate, dilation=rate),
                nn.BatchNorm2d(outputs),
            )
            for rate in (1, 6, 12, 18)
        )
        self.conv = nn.Conv2d(outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second, third, fourth = (conv(x) for conv in self.dilated_convs)
        out: Tensor = self.conv(first + second + third + fourth)
        return out


class PaperAttention(nn.Module):
    """Weighs every value of a map by itself and by what was kept, without bounds."""

    def __init__(self, channels: int, kept: int) -> None:
        super().__init__()
        # An odd size is rounded up here as in the encoder, whose strided convolutions do so.
        self.conv_g = nn.Sequential(*_norm_conv(kept, channels), nn.MaxPool2d(2, ceil_mode=True))
        self.conv_x = nn.Sequential(*_norm_conv(channels, channels))
        self.conv = nn.Sequential(*_norm_conv(channels, channels))

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        weight: Tensor = self.conv(self.conv_g(kept) + self.conv_x(x))
        return weight * x


class PaperDecodingBlock(nn.Module):
    """Attention, doubling, and a unit on the map and what was kept."""

    def __init__(self, channels: int, kept: int, outputs: int) -> None:
        super().__init__()
        self.att = PaperAttention(channels, kept)
        self.unit = PaperUnit(channels + kept, outputs)

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        out: Tensor = self.unit(torch.cat((resize_to(self.att(x, kept), kept, "nearest"), kept), 1))
        return out


class ResUNetPP(Segmenter):
    """ResUNet++: a ResUNet with squeeze and excitation, atrous pyramid pooling and attention, made for polyps.

    Choose it where a small network must learn from scratch and objects differ in size: the pyramid looks at the
    coarsest map at four scales. `zh320` is among the fastest networks here, because it works at half the resolution,
    which may cost it the finest contours. `paper` works at full resolution and takes three times as many operations.

    Two networks bear the name. `zh320` is that of zh320/medical-segmentation-pytorch, and takes its weights. It
    departs from the paper: the first unit halves the image and the logits are enlarged at the end, norm and ReLU come
    after each convolution, shortcuts have a ReLU, what the decoder gets was not squeezed, the pyramid is joined
    with a pooled branch instead of summed, attention is one sigmoid map instead of a factor for each value. `paper` is
    the authors' own network, and takes the weights of their PyTorch code; the weights begin with Glorot's, Keras's
    default, and intensities are in [0, 1].

    Args:
        in_channels: channels of the image.
        num_classes: output channels.
        base: channels of the first unit; each further one has twice as many. By default 32 for zh320, 16 for paper.
        variant: which network: zh320's or the paper's.
        aux: adds a 1x1 head to each of the two coarser decoder stages, for training alone.
    """

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    key_map = (
        (r"^(module\.)+", ""),
        *((rf"^aspp\.c{branch + 1}\.", f"seg_head.0.dilated_convs.{branch}.") for branch in range(4)),
        (r"^aspp\.c5\.", "seg_head.0.conv."),
        *((rf"^b1\.c{branch + 1}\.", f"aspp.dilated_convs.{branch}.") for branch in range(4)),
        (r"^b1\.c5\.", "aspp.conv."),
        (r"^output\.", "seg_head.1."),
        (r"^c(\d)\.", r"encoding_block\1.unit."),
        (r"^d1\.", "decoding_block3."),
        (r"^d2\.", "decoding_block2."),
        (r"^d3\.", "decoding_block1."),
        (r"\.r1\.", ".unit."),
        (r"\.a1\.g_conv\.", ".att.conv_g."),
        (r"\.a1\.x_conv\.", ".att.conv_x."),
        (r"\.a1\.gc_conv\.", ".att.conv."),
        (r"\.unit\.c1\.", ".unit.conv."),
        (r"\.unit\.c2\.", ".unit.conv_skip."),
        (r"\.unit\.attn\.net\.", ".unit.se.se_block."),
    )

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
        smallest, usual = (8, 16) if paper else (16, 32)
        width = usual if base is None else base
        self.halves = not paper
        if width < smallest:
            raise ValueError(f"base must be at least {smallest} for the variant {variant}, not {width}")
        if paper:
            widths = self._build_paper(in_channels, num_classes, width)
        else:
            widths = self._build_zh320(in_channels, num_classes, width)
        self.aux_heads = nn.ModuleList(
            nn.Conv2d(channels, num_classes, 1, bias=paper) for channels in (widths if aux else ())
        )
        self.heads = 1 + len(self.aux_heads)
        if paper:
            self.mean, self.std = (0.0,), (1.0,)
            init_keras(self)

    def _build_zh320(self, in_channels: int, num_classes: int, width: int) -> tuple[int, int]:
        """The parts of zh320's network; returns the channels of the second and third finest decoder stage."""
        self.encoding_block1: nn.Module = EncodingBlock(in_channels, width)
        self.encoding_block2: nn.Module = EncodingBlock(width, 2 * width)
        self.encoding_block3: nn.Module = EncodingBlock(2 * width, 4 * width)
        self.encoding_block4: nn.Module = EncodingBlock(4 * width, 8 * width, squeeze=False)
        self.aspp: nn.Module = ASPP(8 * width, 8 * width)
        self.decoding_block3: nn.Module = DecodingBlock(8 * width, 4 * width, 4 * width)
        self.decoding_block2: nn.Module = DecodingBlock(4 * width, 2 * width, 2 * width)
        self.decoding_block1: nn.Module = DecodingBlock(2 * width, width, width)
        self.seg_head = nn.Sequential(ASPP(width, width), nn.Conv2d(width, num_classes, 1, bias=False))
        return 2 * width, 4 * width

    def _build_paper(self, in_channels: int, num_classes: int, width: int) -> tuple[int, int]:
        """The parts of the authors' network, under the same names."""
        self.encoding_block1 = PaperEncodingBlock(in_channels, width, first=True)
        self.encoding_block2 = PaperEncodingBlock(width, 2 * width, stride=2)
        self.encoding_block3 = PaperEncodingBlock(2 * width, 4 * width, stride=2)
        self.encoding_block4 = PaperEncodingBlock(4 * width, 8 * width, stride=2)
        self.aspp = PaperASPP(8 * width, 16 * width)
        self.decoding_block3 = PaperDecodingBlock(16 * width, 4 * width, 8 * width)
        self.decoding_block2 = PaperDecodingBlock(8 * width, 2 * width, 4 * width)
        self.decoding_block1 = PaperDecodingBlock(4 * width, width, 2 * width)
        self.seg_head = nn.Sequential(PaperASPP(2 * width, width), nn.Conv2d(width, num_classes, 1))
        return 4 * width, 8 * width

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        x, skip1 = self.encoding_block1(image)
        x, skip2 = self.encoding_block2(x)
        x, skip3 = self.encoding_block3(x)
        x, _ = self.encoding_block4(x)
        up3 = self.decoding_block3(self.aspp(x), skip3)
        up2 = self.decoding_block2(up3, skip2)
        logits = self.seg_head(self.decoding_block1(up2, skip1))
        if self.halves:
            logits = resize_to(logits, image, "bilinear")
        if not self.training or not self.aux_heads:
            return logits
        return [logits, *(head(x) for head, x in zip(self.aux_heads, (up2, up3), strict=True))]


def _norm_conv(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), nn.Conv2d(inputs, outputs, 3, padding=1)
