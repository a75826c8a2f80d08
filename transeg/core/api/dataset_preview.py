"""A picture of a dataset: some images of each split, with the outlines of their masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from transeg.core.api.verification import CheckedDomain
from transeg.core.data.images import unit_range
from transeg.core.errors import DataError, UsageError
from transeg.core.inference.visualization import draw_outlines, write_grid
from transeg.core.interfaces import IGNORE, Dataset, Sample

SHOWN = 4
"""Images of a column, which is a split."""
ABREAST = 3
"""Columns of a domain that is not divided."""


def write_preview(domains: Sequence[CheckedDomain], path: Path) -> None:
    """Write a PNG file with a column for each split of each domain; damaged images are left out.

    Raises:
        UsageError: there is nothing to show.
    """
    several = len(domains) > 1
    columns = []
    for domain in domains:
        abreast = ABREAST if len(domain.parts) == 1 else 1
        for split, dataset in domain.parts.items():
            pictures = [_picture(sample) for sample in _some(dataset, SHOWN * abreast)]
            title = f"{domain.name} {split}" if several else split
            columns += [(title, pictures[first::abreast]) for first in range(min(abreast, len(pictures)))]
    if not columns:
        raise UsageError(f"There is no image to show in --preview {path}.")
    write_grid(columns, path)


def _some(dataset: Dataset, count: int) -> list[Sample]:
    """Samples that lie evenly in a dataset."""
    samples = []
    for index in np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(int)) if len(dataset) else ():
        try:
            samples.append(dataset[int(index)])
        except DataError:
            continue
    return samples


def _picture(sample: Sample) -> np.ndarray:
    """An image with the outlines of its foreground, ``(H, W, 3)`` uint8; of many channels the first is shown."""
    image = unit_range(sample.image)
    shown = image[:, :, :3] if image.shape[2] >= 3 else np.repeat(image[:, :, :1], 3, axis=2)
    picture = shown if shown.dtype == np.uint8 else (shown * 255).round().astype(np.uint8)
    if sample.mask is None:
        return picture
    return draw_outlines(picture, np.where(sample.mask == IGNORE, 0, sample.mask))
