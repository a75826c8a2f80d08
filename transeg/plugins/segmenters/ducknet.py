"""DUCK-Net: residual, dilated and separated convolutions side by side in every block.

Dumitru, Peteleaza and Craciun, Scientific Reports 13:9803, 2023, arXiv:2311.02239.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn

from transeg.core.interfaces import Segmenter
from transeg.plugins.segmenters.layers import conv_norm, init_keras, resize_to


@dataclass(frozen=True)
class BlockTypes:
    """What the variants make differently: each part is called with its input and output channels."""

    conv: Callable[..., nn.Module]
    """Convolution with norm and activation that keeps the size; takes ``kernel`` and ``dilation``."""
    norm: Callable[[int], nn.Module]
    """Comes at both ends of a block and after the sum of a residual one."""
    shortcut: Callable[[int, int], nn.Module]
    """Leads around the convolutions of a residual block."""
    halve: Callable[[int, int], nn.Module]
    """Halves what a block made."""
    halve_side: Callable[[int, int], nn.Module]
    """Halves what comes from the image past all blocks."""
    head: Callable[[int, int], nn.Module]
    separated: int
    """Length of the separated kernels."""


class DUCKResidual(nn.Module):
    """Two convolutions and their shortcut."""

    def __init__(self, parts: BlockTypes, inputs: int, outputs: int) -> None:
        super().__init__()
        self.upper_branch = parts.shortcut(inputs, outputs)
        self.lower_branch = nn.Sequential(parts.conv(inputs, outputs), parts.conv(outputs, outputs))
        self.bn = parts.norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.upper_branch(x) + self.lower_branch(x))
        return out


class DUCK(nn.Module):
    """Six branches of different field, summed."""

    def __init__(self, parts: BlockTypes, inputs: int, outputs: int) -> None:
        super().__init__()
        length = parts.separated
        self.in_bn = parts.norm(inputs)
        self.branch1 = _dilated(parts, inputs, outputs, 3)
        self.branch2 = _dilated(parts, inputs, outputs, 2)
        self.branch3 = DUCKResidual(parts, inputs, outputs)
        self.branch4 = _residual(parts, inputs, outputs, 2)
        self.branch5 = _residual(parts, inputs, outputs, 3)
        self.branch6 = nn.Sequential(
            parts.conv(inputs, outputs, kernel=(1, length)), parts.conv(outputs, outputs, kernel=(length, 1))
        )
        self.out_bn = parts.norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.in_bn(x)
        total = self.branch1(x) + self.branch2(x)
        # In place, because no backward pass needs a sum: only what a ReLU returned must stay as it is.
        total += self.branch3(x)
        total += self.branch4(x)
        total += self.branch5(x)
        total += self.branch6(x)
        out: Tensor = self.out_bn(total)
        return out


class DUCKDownStage(nn.Module):
    """A block whose output is both kept and halved, and joined with the halved image."""

    def __init__(self, parts: BlockTypes, inputs: int, outputs: int, wider: int) -> None:
        super().__init__()
        self.duck = DUCK(parts, inputs, outputs)
        self.conv1 = parts.halve(outputs, wider)
        self.conv2 = parts.halve_side(inputs, wider)

    def forward(self, x: Tensor, side: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        skip = self.duck(x)
        side = self.conv2(side)
        return self.conv1(skip) + side, side, skip


class DUCKUpStage(nn.Module):
    """A block on the sum of the coarser map and what was kept."""

    def __init__(self, parts: BlockTypes, inputs: int, outputs: int) -> None:
        super().__init__()
        self.duck = DUCK(parts, inputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        out: Tensor = self.duck(resize_to(x, skip, "nearest") + skip)
        return out


class DUCKNet(Segmenter):
    """DUCK-Net: a U-shaped network that keeps full resolution and looks at each scale through six kinds of branches.

    Choose it for accuracy where time and memory allow: it was made for polyps and to learn from few images without
    pretrained weights. A forward takes four times the operations of HarDNet-MSEG.

    Two networks bear the name. `zh320` is that of zh320/medical-segmentation-pytorch, and takes its weights. It
    departs from the paper: batch norm before ReLU, a ReLU at both ends of a block and after each residual sum (the
    very first one cuts off the darker half of the image), separated kernels of 7, 3x3 convolutions that halve, no
    biases, ImageNet's statistics. `paper` is the network as its authors wrote it in Keras: ReLU before batch norm, no
    ReLU at the ends of a block, separated kernels of 6, plain 2x2 convolutions that halve, He's and Glorot's initial
    weights, intensities in [0, 1].

    Args:
        in_channels: channels of the image.
        num_classes: output channels.
        filters: channels of the first block; each further one has twice as many. Published with 17 and 34.
        variant: which network: zh320's or the paper's.
        aux: adds a 1x1 head to each of the four coarser decoder stages, for training alone.
    """

    size_multiple = 32
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    key_map = ((r"^(module\.)+", ""),)

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        filters: int = 17,
        variant: Literal["zh320", "paper"] = "zh320",
        aux: bool = False,
    ) -> None:
        super().__init__()
        if filters < 1:
            raise ValueError(f"filters must be at least 1, not {filters}")
        parts = PARTS[variant]
        if variant == "paper":
            self.mean, self.std = (0.0,), (1.0,)
        widths = [filters * 2**stage for stage in range(6)]
        self.down_stage1 = DUCKDownStage(parts, in_channels, widths[0], widths[1])
        self.down_stage2 = DUCKDownStage(parts, widths[1], widths[1], widths[2])
        self.down_stage3 = DUCKDownStage(parts, widths[2], widths[2], widths[3])
        self.down_stage4 = DUCKDownStage(parts, widths[3], widths[3], widths[4])
        self.down_stage5 = DUCKDownStage(parts, widths[4], widths[4], widths[5])
        self.mid_stage = nn.Sequential(
            DUCKResidual(parts, widths[5], widths[5]),
            DUCKResidual(parts, widths[5], widths[5]),
            DUCKResidual(parts, widths[5], widths[4]),
            DUCKResidual(parts, widths[4], widths[4]),
        )
        self.up_stage5 = DUCKUpStage(parts, widths[4], widths[3])
        self.up_stage4 = DUCKUpStage(parts, widths[3], widths[2])
        self.up_stage3 = DUCKUpStage(parts, widths[2], widths[1])
        self.up_stage2 = DUCKUpStage(parts, widths[1], widths[0])
        self.up_stage1 = DUCKUpStage(parts, widths[0], widths[0])
        self.seg_head = parts.head(widths[0], num_classes)
        self.aux_heads = nn.ModuleList(parts.head(width, num_classes) for width in widths[: 4 if aux else 0])
        self.heads = 1 + len(self.aux_heads)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        x, side, skip1 = self.down_stage1(image, image)
        x, side, skip2 = self.down_stage2(x, side)
        x, side, skip3 = self.down_stage3(x, side)
        x, side, skip4 = self.down_stage4(x, side)
        x, side, skip5 = self.down_stage5(x, side)
        up5 = self.up_stage5(self.mid_stage(x), skip5)
        up4 = self.up_stage4(up5, skip4)
        up3 = self.up_stage3(up4, skip3)
        up2 = self.up_stage2(up3, skip2)
        logits: Tensor = self.seg_head(self.up_stage1(up2, skip1))
        if not self.training or not self.aux_heads:
            return logits
        return [logits, *(head(x) for head, x in zip(self.aux_heads, (up2, up3, up4, up5), strict=True))]


def _dilated(parts: BlockTypes, inputs: int, outputs: int, depth: int) -> nn.Sequential:
    """Convolutions of dilation 1, 2, ..."""
    return nn.Sequential(
        *(parts.conv(inputs if rate == 1 else outputs, outputs, dilation=rate) for rate in range(1, depth + 1))
    )


def _residual(parts: BlockTypes, inputs: int, outputs: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(DUCKResidual(parts, outputs if index else inputs, outputs) for index in range(depth)))


def _bare_conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, bias=False)


def _norm_relu(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def _keras_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)  # a momentum of 0.99 in Keras's way of counting


def _conv_relu(inputs: int, outputs: int, kernel: int | tuple[int, int] = 3, dilation: int = 1) -> nn.Sequential:
    rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = ((rows - 1) // 2 * dilation, (columns - 1) // 2 * dilation)
    conv = nn.Conv2d(inputs, outputs, (rows, columns), padding=padding, dilation=dilation)
    init_keras(conv, nn.init.kaiming_uniform_)
    # TensorFlow's padding "same" lets an even kernel see one pixel more after than before.
    even = [] if rows % 2 and columns % 2 else [nn.ZeroPad2d((0, 1 - columns % 2, 0, 1 - rows % 2))]
    return nn.Sequential(*even, conv, nn.ReLU(inplace=True))


def _conv_relu_norm(inputs: int, outputs: int, kernel: int | tuple[int, int] = 3, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(_conv_relu(inputs, outputs, kernel, dilation), _keras_norm(outputs))


def _patch_conv(inputs: int, outputs: int, size: int) -> nn.Conv2d:
    """A linear convolution over patches that do not overlap, with Keras's usual initial weights."""
    conv = nn.Conv2d(inputs, outputs, size, size)
    init_keras(conv)
    return conv


PARTS = {
    "zh320": BlockTypes(
        conv=conv_norm,
        norm=_norm_relu,
        shortcut=_bare_conv,
        halve=partial(conv_norm, stride=2),
        halve_side=partial(conv_norm, kernel=2, stride=2),
        head=_bare_conv,
        separated=7,
    ),
    "paper": BlockTypes(
        conv=_conv_relu_norm,
        norm=_keras_norm,
        shortcut=partial(_conv_relu, kernel=1),
        halve=partial(_patch_conv, size=2),
        halve_side=partial(_patch_conv, size=2),
        head=partial(_patch_conv, size=1),
        separated=6,
    ),
}
