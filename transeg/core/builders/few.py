"""A few images of a data set, as one afternoon of labelling would give them: of few groups, not of all."""

from __future__ import annotations

import random

from transeg.core.builders.folds import Subset
from transeg.core.errors import UsageError
from transeg.core.interfaces import Dataset


def draw_few(dataset: Dataset, count: int, seed: int) -> Subset:
    """So many images of groups in random order; of the last group, the first ones that are still wanted.

    Args:
        dataset: to draw from.
        count: of images.
        seed: of the order; more images with one seed include the fewer ones.

    Raises:
        UsageError: there are not so many.
    """
    if count > len(dataset):
        raise UsageError(f"{count} images are to be drawn (data.synthetic_limit), but there are {len(dataset)}.")
    of_group: dict[str, list[int]] = {}
    for index in range(len(dataset)):
        of_group.setdefault(dataset.group_of(index), []).append(index)
    names = sorted(of_group)
    random.Random(seed).shuffle(names)
    drawn = [index for name in names for index in of_group[name]][:count]
    return Subset([(dataset, index) for index in sorted(drawn)])


def groups_in(dataset: Dataset) -> list[str]:
    """The groups that a data set has images of, in the order of their names."""
    return sorted({dataset.group_of(index) for index in range(len(dataset))})
