"""Datasets whose images have dark and bright exchanged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from transeg.core.data.wrapper import DatasetWrapper
from transeg.core.interfaces import Dataset, Region, Sample


class InvertedDataset(DatasetWrapper):
    """The negatives of a dataset's images; labels and counterparts stay as they are.

    Args:
        dataset: its images are uint8, uint16, or float32 in [0, 1].
    """

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self._how = "inverted"

    def __getitem__(self, index: int) -> Sample:
        return _inverted(self._dataset[index])

    def read_region(self, index: int, region: Region) -> Sample | None:
        part = self._dataset.read_region(index, region)
        return None if part is None else _inverted(part)


def _inverted(sample: Sample) -> Sample:
    return replace(sample, image=negative(sample.image))


def negative(image: np.ndarray) -> np.ndarray:
    """``(H, W, C)`` with dark and bright exchanged in each channel: uint8, uint16, or float32 in [0, 1]."""
    brightest = 1 if np.issubdtype(image.dtype, np.floating) else np.iinfo(image.dtype).max
    return (brightest - image).astype(image.dtype, copy=False)
