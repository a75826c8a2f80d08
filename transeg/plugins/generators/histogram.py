"""Histogram matching: a translation that needs no training.

Gonzalez and Woods, "Digital Image Processing"; means and deviations as in Reinhard, Ashikhmin, Gooch and Shirley,
"Color Transfer between Images", IEEE CG&A 2001, doi:10.1109/38.946629.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from transeg.core.interfaces import Generator, Noise
from transeg.plugins.generators.references import draw_references

LEVELS = 256
"""Quantiles that are kept of a channel, and intensities that are counted; between them it is interpolated."""


class Histogram(Generator):
    """Gives every image the intensities of a target image, drawn anew for each: nothing moves, nothing is trained.

    What it learns of at most `references` target images are the quantiles of their channels. An image that is
    translated in windows is matched window by window.

    Args:
        source_channels: channels of the source domain.
        target_channels: channels of the target domain.
        method: `histogram` for the distribution of each channel, or `moments` for its mean and deviation alone.
        references: target images to draw from.

    Raises:
        ValueError: the numbers of channels differ.
    """

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        *,
        method: Literal["histogram", "moments"] = "histogram",
        references: Annotated[int, Field(ge=1, le=64)] = 64,
    ) -> None:
        super().__init__()
        if source_channels != target_channels:
            raise ValueError(f"it cannot match {source_channels} channels with {target_channels}")
        self._method = method
        self.quantiles: Tensor
        even = torch.linspace(-1, 1, LEVELS)  # until it has seen targets: every intensity is as frequent as the others
        self.register_buffer("quantiles", even.repeat(references, target_channels, 1))

    def fit(self, target: Tensor) -> None:
        pixels = target.flatten(2).sort(-1).values.float()
        middles = (torch.arange(LEVELS, device=pixels.device) + 0.5) / LEVELS
        found = _interpolate(pixels, middles.expand(*pixels.shape[:2], -1))
        self.quantiles.copy_(found[torch.arange(len(self.quantiles)) % len(found)])

    def translate(self, image: Tensor, direction: str, noise: Noise | None = None) -> Tensor:
        chosen = draw_references(self.quantiles, image.shape[0], noise)
        match = match_quantiles if self._method == "histogram" else match_moments
        return match(image.float(), chosen).clamp(-1, 1).to(image.dtype)


def match_quantiles(image: Tensor, quantiles: Tensor) -> Tensor:
    """Images whose channels have given distributions; pixels that were equal stay equal.

    Args:
        image: ``(N, C, H, W)`` float32 in [-1, 1].
        quantiles: ``(N, C, K)``, ascending: the middles of K equal shares.
    """
    place = ((image.flatten(2) + 1) / 2 * (LEVELS - 1)).clamp(0, LEVELS - 1)
    empty = torch.zeros_like(quantiles[:, :, :1]).expand(-1, -1, LEVELS)
    counts = empty.scatter_add(-1, place.round().long(), torch.ones_like(place))
    share_below = (counts.cumsum(-1) - counts / 2) / place.shape[-1]
    return _interpolate(quantiles, _between(share_below, place)).view_as(image)


def match_moments(image: Tensor, quantiles: Tensor) -> Tensor:
    """Images whose channels have the means and deviations of given distributions; see :func:`match_quantiles`."""
    mean, std = image.mean((2, 3), keepdim=True), image.std((2, 3), keepdim=True, correction=0)
    wanted_mean = quantiles.mean(-1)[:, :, None, None]
    wanted_std = quantiles.std(-1, correction=0)[:, :, None, None]
    return (image - mean) / std.clamp(min=1e-6) * wanted_std + wanted_mean


def _interpolate(quantiles: Tensor, share: Tensor) -> Tensor:
    """Values below which given shares of distributions lie.

    Args:
        quantiles: ``(N, C, K)``, ascending: the middles of K equal shares.
        share: ``(N, C, P)`` in [0, 1].
    """
    count = quantiles.shape[-1]
    return _between(quantiles, (share * count - 0.5).clamp(0, count - 1))


def _between(values: Tensor, place: Tensor) -> Tensor:
    """Values ``(N, C, K)`` at places ``(N, C, P)`` in [0, K - 1], which lie between two of them."""
    before = place.floor().long()
    after = (before + 1).clamp(max=values.shape[-1] - 1)
    return torch.lerp(values.gather(-1, before), values.gather(-1, after), place - before)
