"""Brings the stain of H&E images to that of a reference, in training and ever after."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

from transeg.core.data.images import read_unit_image, unit_range
from transeg.core.data.wrapper import DatasetWrapper
from transeg.core.errors import DataError, UsageError
from transeg.core.interfaces import Dataset, Sample

Method = Literal["macenko", "reinhard"]

TISSUE = 205
"""Pixels darker than this in every channel are tissue: an optical density of 0.15, from which Macenko estimates."""
LEAST_TISSUE = 0.01
"""Share of tissue below which an image says nothing about its stain."""


class StainNormaliser:
    """Stain normalisation by torchstain, after Macenko et al. (ISBI 2009) or Reinhard et al. (CG&A 2001).

    An image with hardly any tissue, or with tissue of one colour, is left as it is: what little there is would be
    stretched to both stains.

    Args:
        method: `macenko` unmixes haematoxylin and eosin and mixes them as the reference does; `reinhard` matches
            means and deviations of the colours.
        reference: an image file with the wanted stain.

    Attributes:
        how: a text that differs where results do.

    Raises:
        UsageError: torchstain is not installed, or the reference shows no tissue.
        DataError: the reference cannot be read.
    """

    def __init__(self, method: Method, reference: Path) -> None:
        try:
            from torchstain.base import normalizers
        except ImportError as error:
            raise UsageError("data.stain needs torchstain; install it with: pip install 'transeg[stain]'") from error
        build = {"macenko": normalizers.MacenkoNormalizer, "reinhard": normalizers.ReinhardNormalizer}[method]
        self._normaliser = build(backend="numpy")
        self._further = {"stains": False} if method == "macenko" else {}
        image = _eight_bits(read_unit_image(reference, 3))
        if not _shows_tissue(image):
            raise UsageError(f"data.stain.reference: {reference} shows hardly any tissue, so it has no stain to match.")
        self._normaliser.fit(image)
        self.how = f"{method} {version('torchstain')} {hashlib.sha256(image.tobytes()).hexdigest()} {image.shape}"

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Normalise ``(H, W, 3)`` of any type; the result is uint8.

        Raises:
            DataError: the image has other channels.
        """
        if image.shape[2] != 3:
            raise DataError(f"data.stain is for colour images, but there is one of {image.shape[2]} channels.")
        pixels = _eight_bits(image)
        if not _shows_tissue(pixels):
            return pixels
        result = self._normaliser.normalize(pixels, **self._further)
        return np.asarray(result[0] if isinstance(result, tuple) else result)


@lru_cache(maxsize=4)
def stain_normaliser(method: Method, reference: Path) -> StainNormaliser:
    """The same object for the same reference, which is read once."""
    return StainNormaliser(method, reference)


class StainNormalisedDataset(DatasetWrapper):
    """A dataset with the stain of its images normalised, each as a whole; their counterparts stay as they are.

    Args:
        dataset: of colour images.
        normalise: what is done to each.
    """

    def __init__(self, dataset: Dataset, normalise: StainNormaliser) -> None:
        super().__init__(dataset)
        self._normalise = normalise
        self._how = f"stained {normalise.how}"

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[index]
        return replace(sample, image=self._normalise(sample.image))


def _shows_tissue(pixels: np.ndarray) -> bool:
    tissue = pixels[(pixels < TISSUE).all(axis=2)]
    return len(tissue) >= LEAST_TISSUE * pixels[:, :, 0].size and bool((tissue != tissue[0]).any())


def _eight_bits(image: np.ndarray) -> np.ndarray:
    pixels = unit_range(image)
    return pixels if pixels.dtype == np.uint8 else (pixels * 255).round().clip(0, 255).astype(np.uint8)
