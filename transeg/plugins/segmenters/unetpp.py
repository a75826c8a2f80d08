"""UNet++: a U-Net whose skips are networks of their own.

Zhou, Siddiquee, Tajbakhsh and Liang, DLMIA 2018, arXiv:1807.10165, and IEEE TMI 2020, arXiv:1912.05074. Written from
the papers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, cast

import torch
from torch import Tensor, nn

from transeg.core.interfaces import Segmenter
from transeg.plugins.segmenters.unet import NORMED, PLAIN, DownStage, UNetVariant, draw_he

DEPTH = 4
"""Rows below the finest."""


def dropout_block(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions with bias, each with ReLU and dropout."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
    )


class Node(nn.Module):
    """Two convolutions, and the learned upsampling of their result into the row above."""

    def __init__(self, inputs: int, outputs: int, above: int, parts: UNetVariant) -> None:
        super().__init__()
        self.conv = parts.block(inputs, outputs)
        self.up = parts.up(outputs, above)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(x)
        return x, self.up(x)


class UNetPlusPlus(Segmenter):
    """UNet++ of five rows: dense skips narrow the gap between the two paths of a U-Net.

    Choose it where structures of very different size occur together and time matters less: it costs twice the
    multiplications of a U-Net of the same base. With `aux` every depth of the network is trained on its own, as in the
    paper (deep supervision).

    The variant `zh320` is the form that zh320/medical-segmentation-pytorch trains, with batch norm; the last node of
    each row below the finest has half the published channels. Its checkpoints load. The variant `paper` has the
    published channels, no batch norm, 2x2 pooling and up-convolutions, a dropout of one half and weights drawn as He
    et al. do.

    Args:
        in_channels: channels of the image.
        num_classes: output channels.
        base: channels of the finest row; each further one has twice as many.
        variant: `zh320`, with batch norm, or `paper`, as first published.
        aux: train the three inner nodes of the finest row too, each through a head of its own.

    Raises:
        ValueError: base is not positive.
    """

    size_multiple = 2**DEPTH
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    key_map = ((r"^(module\.)+", ""),)

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        base: int = 32,
        variant: Literal["zh320", "paper"] = "zh320",
        aux: bool = False,
    ) -> None:
        super().__init__()
        if base < 1:
            raise ValueError(f"base must be at least 1, not {base}")
        parts = replace(PLAIN, block=dropout_block) if variant == "paper" else NORMED
        widths = [base * 2**row for row in range(DEPTH + 1)]
        self.stage00 = DownStage(in_channels, base, parts)
        self.pool = parts.pool()
        for column in range(1, DEPTH + 1):
            self.add_module(f"stage0{column}", parts.block((column + 1) * base, base))
        for row in range(1, DEPTH + 1):
            above, width = widths[row - 1 : row + 1]
            for column in range(DEPTH + 1 - row):
                inputs = (column + 1) * width if column else above
                narrow = variant == "zh320" and 0 < column == DEPTH - row
                self.add_module(f"stage{row}{column}", Node(inputs, above if narrow else width, above, parts))
        self.seg_head = parts.head(base, num_classes)
        self.aux_heads = nn.ModuleList(parts.head(base, num_classes) for _ in range(DEPTH - 1 if aux else 0))
        self.heads = 1 + len(self.aux_heads)
        if variant == "paper":
            self.mean, self.std = Segmenter.mean, Segmenter.std
            self.apply(draw_he)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        pooled, first = self.stage00(image)
        rows = [[first], *([] for _ in range(DEPTH))]
        for depth in range(1, DEPTH + 1):  # each turn adds a row, and from it a node to every row above
            x, raised = self._node(depth, 0)(pooled)
            rows[depth].append(x)
            for row in range(depth - 1, 0, -1):
                x, raised = self._node(row, depth - row)(torch.cat((raised, *rows[row]), 1))
                rows[row].append(x)
            rows[0].append(self._node(0, depth)(torch.cat((raised, *rows[0]), 1)))
            if depth < DEPTH:
                pooled = self.pool(rows[depth][0])
        logits: Tensor = self.seg_head(rows[0][-1])
        if not (self.training and self.aux_heads):
            return logits
        return [logits, *(head(x) for head, x in zip(self.aux_heads, rows[0][1:-1], strict=True))]

    def _node(self, row: int, column: int) -> nn.Module:
        return cast("nn.Module", getattr(self, f"stage{row}{column}"))
