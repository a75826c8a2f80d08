"""Datasets whose images are brought to another size of pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from transeg.core.data.images import resize, resize_mask
from transeg.core.data.wrapper import DatasetWrapper
from transeg.core.errors import DataError
from transeg.core.interfaces import Dataset, Sample

LARGEST = 2**30
"""Pixels of an image; a larger one comes of a wrong unit."""


class RescaledDataset(DatasetWrapper):
    """A dataset whose images have pixels of a wanted size, or are larger or smaller by a factor.

    Images take area means along a side that shrinks and are interpolated linearly along one that grows; labels are
    those of the nearest pixel. Sides are rounded to whole pixels, and the size that a sample states for its pixels is
    what comes of that.

    Args:
        dataset: what is rescaled.
        pixel_size: wanted height and width of pixels, in micrometres; None where there is a factor.
        factor: on the height and width of images.

    Raises:
        ValueError: the dataset does not say how large its pixels are; a clause.
    """

    def __init__(self, dataset: Dataset, *, pixel_size: float | None = None, factor: float | None = None) -> None:
        super().__init__(dataset)
        self._wanted = pixel_size
        self._factor = factor
        self._how = f"rescaled {pixel_size!r} {factor!r}"
        if pixel_size is not None and len(dataset) and dataset.pixel_size_of(0) is None:
            raise ValueError(
                "the pixel size of the images is not known, so they cannot be resampled to pixel_size="
                f"{pixel_size} micrometres; say rescale=FACTOR instead"
            )

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[index]
        height, width = self._size(sample.size, sample.pixel_size, sample.name)
        changed: dict[str, Any] = {"image": _resampled(sample.image, height, width)}
        if sample.target is not None:
            changed["target"] = _resampled(sample.target, height, width)
        if sample.depth is not None:
            changed["depth"] = _resampled(sample.depth[:, :, None], height, width)[:, :, 0]
        for name, dtype in (("mask", np.uint8), ("instances", np.int32)):
            labels = getattr(sample, name)
            if labels is not None:
                changed[name] = resize_mask(labels.astype(dtype), height, width)
        if sample.valid is not None:
            changed["valid"] = resize_mask(sample.valid.astype(np.uint8), height, width).astype(bool)
        return replace(sample, **changed, pixel_size=_pixel_size(sample.pixel_size, sample.size, (height, width)))

    def size_of(self, index: int) -> tuple[int, int]:
        said = None if self._wanted is None else self._dataset.pixel_size_of(index)
        return self._size(self._dataset.size_of(index), said, f"image {index}")

    def pixel_size_of(self, index: int) -> tuple[float, float] | None:
        before = self._dataset.size_of(index)
        return _pixel_size(self._dataset.pixel_size_of(index), before, self.size_of(index))

    def _size(self, size: tuple[int, int], said: tuple[float, float] | None, name: str) -> tuple[int, int]:
        """Height and width that an image gets."""
        factors = (self._factor, self._factor)
        if self._wanted is not None:
            if said is None:
                raise DataError(
                    f"The pixel size of {name} is not known, so it cannot be resampled to "
                    f"pixel_size={self._wanted} micrometres."
                )
            factors = (said[0] / self._wanted, said[1] / self._wanted)
        height, width = (max(1, round(side * (factor or 1.0))) for side, factor in zip(size, factors, strict=True))
        if height * width > LARGEST:
            raise DataError(f"{name} would become {width}x{height} pixels; pixel_size is in micrometres.")
        return height, width


def _resampled(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """``(H, W, C)`` at another size, where one side may shrink while the other grows."""
    smaller = resize(pixels, min(height, pixels.shape[0]), min(width, pixels.shape[1]))
    return resize(smaller, height, width)


def _pixel_size(
    said: tuple[float, float] | None, before: tuple[int, int], after: tuple[int, int]
) -> tuple[float, float] | None:
    if said is None:
        return None
    return said[0] * before[0] / after[0], said[1] * before[1] / after[1]
