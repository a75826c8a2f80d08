"""Stain transfer: a translation of H&E images that needs no training.

Macenko et al., "A Method for Normalizing Histology Slides for Quantitative Analysis", ISBI 2009,
doi:10.1109/ISBI.2009.5193250; Reinhard, Ashikhmin, Gooch and Shirley, "Color Transfer between Images", IEEE CG&A 2001,
doi:10.1109/38.946629. Numbers are those of torchstain, but for its rounding.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from transeg.core.interfaces import Generator, Noise
from transeg.plugins.generators.references import draw_references
from transeg.plugins.generators.stain import macenko, reinhard

TISSUE = 0.15
"""Optical density in every channel from which a pixel is tissue."""
LEAST_TISSUE = 0.01
"""Share of tissue below which an image says nothing about its stain."""
LEAST_RANGE = 2 / 255
"""Of an intensity in tissue that is not of one colour."""


class Stain(Generator):
    """Gives every image of stained tissue the stain of a target image, drawn anew for each; nothing is trained.

    For haematoxylin and eosin, and RGB images alone. What it learns of at most `references` target images are two
    stains and their strengths, or means and deviations of colours. Images with hardly any tissue, or without two stains
    where these are looked for, are left as they are; of the target they are not learned from. An image that is
    translated in windows, and a crop in training, are looked at by themselves: choose `data.stain` to normalise whole
    images of source and target to one reference instead.

    Args:
        source_channels: channels of the source domain.
        target_channels: channels of the target domain.
        method: `macenko` unmixes the two stains and mixes them as the target does; `reinhard` matches means and
            deviations of the colours.
        references: target images to draw from.

    Raises:
        ValueError: the images are not RGB.
    """

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        *,
        method: Literal["macenko", "reinhard"] = "macenko",
        references: Annotated[int, Field(ge=1, le=64)] = 64,
    ) -> None:
        super().__init__()
        if (source_channels, target_channels) != (3, 3):
            raise ValueError(
                f"stain is for RGB images; the channels of source and target are {source_channels} and "
                f"{target_channels}, for which there are histogram and fda"
            )
        self._macenko = method == "macenko"
        unseen = macenko.UNSEEN if self._macenko else reinhard.UNSEEN
        self.references: Tensor
        self.register_buffer("references", torch.tensor(unseen).repeat(references, 1))

    def fit(self, target: Tensor) -> None:
        """Learn stains.

        Raises:
            ValueError: no image shows any.
        """
        found, stained = self._described(target.float())
        if not stained.any():
            raise ValueError(f"none of {len(target)} images of the target shows stained tissue to learn from")
        found = found[stained]
        self.references.copy_(found[torch.arange(len(self.references)) % len(found)])

    def translate(self, image: Tensor, direction: str, noise: Noise | None = None) -> Tensor:
        wanted = draw_references(self.references, image.shape[0], noise)
        source = image.float()
        own, stained = self._described(source)
        exchange = macenko.exchange_stains if self._macenko else reinhard.match_colours
        moved = exchange(source, own, wanted).clamp(-1, 1)
        return torch.where(stained[:, None, None, None], moved, source).to(image.dtype)

    def _described(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What is known of the stain of images ``(N, 3, H, W)``, and which of them ``(N,)`` are stained at all."""
        tissue, stained = find_tissue(image)
        if not self._macenko:
            return reinhard.describe_colours(image), stained
        found, two = macenko.describe_stains(image, tissue)
        return found, stained & two


def find_tissue(image: Tensor) -> tuple[Tensor, Tensor]:
    """Which pixels are tissue, and whether there is enough of it, of more than one colour.

    Args:
        image: ``(N, 3, H, W)`` in [-1, 1].

    Returns:
        ``(N, P)`` and ``(N,)``, both bool.
    """
    tissue = (macenko.optical_density(image) >= TISSUE).all(1)
    counted, pixels = tissue[:, None], image.flatten(2)
    highest = torch.where(counted, pixels, torch.full_like(pixels, -1)).amax(-1)
    lowest = torch.where(counted, pixels, torch.full_like(pixels, 1)).amin(-1)
    several = (highest - lowest > LEAST_RANGE).any(1)
    return tissue, several & (tissue.to(image.dtype).mean(1) >= LEAST_TISSUE)
