"""Hides blocks of images, which a network must then tell from what lies around them.

Hoyer, Dai, Wang and Van Gool, "MIC: Masked image consistency for context-enhanced domain adaptation", CVPR 2023,
arXiv:2212.01322.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from transeg.core.interfaces import Noise, send

_STREAM = 60


@dataclass(frozen=True)
class Masking:
    """Hides each block of a grid by chance.

    Attributes:
        ratio: how likely a block is hidden, in (0, 1).
        block: height and width of blocks in pixels; the last ones end with the image.
    """

    ratio: float
    block: int

    def __call__(self, image: Tensor, fill: Tensor, noise: Noise) -> Tensor:
        """The images ``(N, C, H, W)`` with a value of each channel, ``(1, C, 1, 1)``, where they are hidden."""
        height, width = image.shape[2:]
        draws = noise.field(_STREAM, 1, -(-height // self.block), -(-width // self.block))
        hidden = send(draws < torch.special.ndtri(torch.tensor(self.ratio)), image.device)
        for side in (2, 3):
            hidden = hidden.repeat_interleave(self.block, side)
        return torch.where(hidden[:, :, :height, :width], fill.to(image.dtype), image)
