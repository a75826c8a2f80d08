"""Looks at a few images of each data set before a run begins, for what would make it worthless."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from transeg.core.data.checking import CheckedImage, check_image
from transeg.core.data.set_faults import nothing_to_learn, unlike_masks
from transeg.core.errors import DataError, UsageError
from transeg.core.interfaces import Dataset

FEW = 16
"""Images of a data set that are looked at."""
LARGE = 2**24
"""Pixels of an image that is too large for a look."""


@dataclass(frozen=True)
class ClassShares:
    """How the known pixels of some images are shared among classes.

    Attributes:
        images: how many were looked at.
        of: how many there are.
        shares: of each class, by name.
    """

    images: int
    of: int
    shares: dict[str, float]


def look_at_few(datasets: Mapping[str, Dataset], learned: str) -> dict[str, ClassShares]:
    """The class shares of labelled data sets, by a few images of each.

    Args:
        datasets: by what they are called.
        learned: which of them teaches what the classes look like.

    Raises:
        UsageError: images and masks seem swapped, or there is nothing to learn as all masks are empty, or full.
    """
    found: dict[str, ClassShares] = {}
    for label, dataset in datasets.items():
        images = _few(dataset)
        faults = unlike_masks(images)
        if label == learned and len(images) == len(dataset):
            faults += nothing_to_learn(images)
        if faults:
            raise UsageError(f"{label}: {faults[0].reason} See all with: toolkit data verify.")
        counts = [
            image.facts.classes for image in images if image.facts is not None and image.facts.classes is not None
        ]
        if counts and all(len(count) == len(dataset.classes) for count in counts):
            total = np.sum(counts, axis=0)
            shares = (total / max(1, total.sum())).tolist()
            found[label] = ClassShares(len(counts), len(dataset), dict(zip(dataset.classes, shares, strict=True)))
    return found


def _few(dataset: Dataset) -> list[CheckedImage]:
    """Images that lie evenly in a data set; what is wrong with one is said where it is used."""
    indices = np.unique(np.linspace(0, len(dataset) - 1, FEW).round().astype(int)).tolist() if len(dataset) else []
    return [check_image(dataset, index) for index in indices if _is_small(dataset, index)]


def _is_small(dataset: Dataset, index: int) -> bool:
    try:
        height, width = dataset.size_of(index)
    except DataError:
        return False
    return height * width <= LARGE
