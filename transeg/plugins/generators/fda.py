"""FDA: Fourier domain adaptation, a translation that needs no training.

Yang and Soatto, CVPR 2020, arXiv:2004.05498.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from transeg.core.interfaces import Generator, Noise
from transeg.plugins.generators.references import draw_references

SIDE = 128
"""Height and width in which target images are kept; only their lowest frequencies count."""


class FDA(Generator):
    """Gives every image the low-frequency amplitudes of a target image, drawn anew for each, and keeps its phases.

    Nothing is trained: at most `references` target images are kept, of 128 pixels a side. An image that is translated
    in windows is changed window by window.

    Args:
        source_channels: channels of the source domain.
        target_channels: channels of the target domain.
        beta: half the side of the square of frequencies that are exchanged, as a share of the image's shorter side;
            0.01, 0.05 and 0.09 were published, on images of 512 pixels and more.
        references: target images to draw from.

    Raises:
        ValueError: the numbers of channels differ.
    """

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        *,
        beta: Annotated[float, Field(ge=0, lt=0.5)] = 0.01,
        references: Annotated[int, Field(ge=1, le=64)] = 16,
    ) -> None:
        super().__init__()
        if source_channels != target_channels:
            raise ValueError(f"it cannot exchange amplitudes of {source_channels} channels with {target_channels}")
        self._beta = beta
        self.targets: Tensor
        self.register_buffer("targets", torch.zeros(references, target_channels, SIDE, SIDE))

    def fit(self, target: Tensor) -> None:
        small = _resized(target.float(), SIDE, SIDE)
        self.targets.copy_(small[torch.arange(len(self.targets)) % len(small)])

    def translate(self, image: Tensor, direction: str, noise: Noise | None = None) -> Tensor:
        chosen = draw_references(self.targets, image.shape[0], noise)
        source = (image.float() + 1) / 2  # of [0, 1], as published: in [-1, 1] a mean has a sign, which amplitudes lose
        reference = (_resized(chosen, *image.shape[2:]) + 1) / 2
        return (exchange_amplitudes(source, reference, self._beta) * 2 - 1).clamp(-1, 1).to(image.dtype)


def exchange_amplitudes(image: Tensor, reference: Tensor, beta: float) -> Tensor:
    """Images with their own phases and, in the lowest frequencies, the amplitudes of others.

    Args:
        image: ``(N, C, H, W)`` float32 in [0, 1].
        reference: likewise, of the same size.
        beta: frequencies up to this share of the shorter side are exchanged, in both directions.

    Returns:
        ``(N, C, H, W)``, which may leave [0, 1].
    """
    height, width = image.shape[2:]
    most = beta * min(height, width)
    own, other = torch.fft.fft2(image), torch.fft.fft2(reference)  # ONNX Runtime has no inverse of half a spectrum
    row, column = (torch.arange(side, device=image.device) for side in (height, width))
    lowest = (torch.minimum(row, height - row) <= most)[:, None] & (torch.minimum(column, width - column) <= most)
    amplitude = torch.where(lowest, other.abs(), own.abs())
    return torch.fft.ifft2(torch.polar(amplitude, own.angle())).real


def _resized(image: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(image, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
