"""New label maps from existing ones: single objects exchanged between maps, maps deformed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from transeg.core.builders.datasets import build_nonempty
from transeg.core.data.augmentation import Augmentation, Transform
from transeg.core.data.images import renumber_instances
from transeg.core.errors import DataError
from transeg.core.experiment.completion import complete_dataset
from transeg.core.interfaces import IGNORE, Dataset
from transeg.core.registry import Registry

Variation = Literal["none", "deform", "recombine"]

DEFORMATIONS: Sequence[Transform] = (
    {"name": "D4", "p": 1.0},
    {"name": "Affine", "scale": [0.9, 1.1], "rotate": [-15, 15], "shear": [-5, 5], "border_mode": 4, "p": 1.0},
    {"name": "ElasticTransform", "alpha": 30, "sigma": 5, "border_mode": 4, "p": 1.0},
)
"""Symmetries of the square, a little scaling, turning and shearing, an elastic warp of a few pixels; mirrored edges."""
_DRAW, _DEFORM = 71, 72


@dataclass(frozen=True)
class LabelMap:
    """Classes and single objects of a picture.

    Attributes:
        mask: ``(H, W)`` uint8 classes.
        instances: ``(H, W)`` uint16 numbers of single objects, 0 for none.
        name: of the sample that it comes from.
        group: of that sample.
    """

    mask: np.ndarray
    instances: np.ndarray
    name: str
    group: str


class LabelMaps:
    """As many label maps as wanted, from those of a dataset; each a pure function of seed and number.

    Args:
        dataset: labelled; where it does not number single objects, touching pixels that are not background are one.
        limit: use the first so many; 0 for all.
        variation: what is made of each: `none`, `deform` (symmetries, affine and elastic deformation), or `recombine`
            (half of the single objects are exchanged for those of another map, then it is deformed).
        seed: of every random draw.
    """

    def __init__(self, dataset: Dataset, limit: int, variation: Variation, seed: int) -> None:
        self._dataset = dataset
        self._count = min(limit, len(dataset)) if limit else len(dataset)
        self._variation = variation
        self._seed = seed
        self._deform = Augmentation(DEFORMATIONS, None, seed, _DEFORM)

    def __len__(self) -> int:
        """How many there are before any is used again."""
        return self._count

    def __getitem__(self, number: int) -> LabelMap:
        """The label map of a number.

        Raises:
            DataError: the sample has no mask.
        """
        own = self._given(number % self._count)
        random = np.random.default_rng((self._seed, _DRAW, number))
        if self._variation == "recombine":
            own = recombine(own, self._given(int(random.integers(self._count))), random)
        if self._variation == "none":
            return own
        _, mask, _, instances, _ = self._deform(number, own.mask[:, :, None], own.mask, None, own.instances)
        assert mask is not None
        assert instances is not None
        return LabelMap(mask, instances, own.name, own.group)

    def _given(self, index: int) -> LabelMap:
        sample = self._dataset[index]
        if sample.mask is None:
            raise DataError(f"{sample.name} has no mask, so no image can be made from it.")
        mask = sample.mask.astype(np.uint8)
        if sample.instances is None:
            instances = ndimage.label((mask > 0) & (mask != IGNORE), np.ones((3, 3)))[0]
        else:
            instances = sample.instances
        return LabelMap(mask, renumber_instances(instances), sample.name, sample.group)


def build_label_maps(
    source: Dataset, registry: Registry, *, masks: Path | None, variation: Variation, limit: int, seed: int
) -> LabelMaps:
    """What synthetic images are made of: the training images' label maps, or those of a folder.

    Args:
        source: the training images.
        registry: where the data set `folder` comes from.
        masks: the folder; None for the training images' own.
        variation: as for :class:`LabelMaps`.
        limit: of the training images.
        seed: of every random draw.

    Raises:
        UsageError: the folder holds no label map.
        DataError: a file in it cannot be used.
    """
    if masks is None:
        return LabelMaps(source, limit, variation, seed)
    table: dict[str, Any] = {
        "name": "folder",
        "root": masks,
        "split": "all",
        "images": ".",
        "masks": ".",
        "channels": 1,
        "classes": source.classes,
    }
    if len(source.classes) > 2:  # of two classes, 255 is the foreground
        table["ignore"] = IGNORE
    choice = complete_dataset(table, "source", registry)
    return LabelMaps(build_nonempty(choice, "source", registry), 0, variation, seed)


def recombine(base: LabelMap, donor: LabelMap, random: np.random.Generator) -> LabelMap:
    """Exchange half of the objects of a map for objects of the same class of another.

    Each takes the place of the one that goes, mirrored and turned by right angles at random; where another object lies
    already, it stays.
    """
    offered = _by_class(donor)
    mask, instances = base.mask.copy(), base.instances.copy()
    for number, box in enumerate(ndimage.find_objects(base.instances), start=1):
        if box is None or random.random() < 0.5:
            continue
        own = base.instances[box] == number
        choices = offered.get(_class_of(base.mask[box], own), [])
        if not choices:
            continue
        pixels = _turned(choices[int(random.integers(len(choices)))], random)
        here = instances[box] == number
        mask[box][here] = 0
        instances[box][here] = 0
        _paste(mask, instances, pixels, (_middle(box[0]), _middle(box[1])), number)
    return LabelMap(mask, instances, base.name, base.group)


def _by_class(labels: LabelMap) -> dict[int, list[np.ndarray]]:
    """Every object as a small label map with 0 around it, by its most frequent class."""
    found: dict[int, list[np.ndarray]] = {}
    for number, box in enumerate(ndimage.find_objects(labels.instances), start=1):
        if box is not None:
            own = labels.instances[box] == number
            found.setdefault(_class_of(labels.mask[box], own), []).append(np.where(own, labels.mask[box], 0))
    return found


def _class_of(mask: np.ndarray, own: np.ndarray) -> int:
    return int(np.bincount(mask[own]).argmax())


def _turned(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    turned = np.rot90(pixels, int(random.integers(4)))
    return turned[:, ::-1] if random.random() < 0.5 else turned


def _middle(place: slice) -> int:
    return (place.start + place.stop) // 2


def _paste(mask: np.ndarray, instances: np.ndarray, pixels: np.ndarray, centre: tuple[int, int], number: int) -> None:
    """Put an object around a centre, on free pixels of the picture."""
    rows, columns = np.nonzero(pixels)
    values = pixels[rows, columns]
    rows, columns = rows + centre[0] - pixels.shape[0] // 2, columns + centre[1] - pixels.shape[1] // 2
    inside = (rows >= 0) & (rows < mask.shape[0]) & (columns >= 0) & (columns < mask.shape[1])
    rows, columns, values = rows[inside], columns[inside], values[inside]
    free = (instances[rows, columns] == 0) & (mask[rows, columns] != IGNORE)
    mask[rows[free], columns[free]] = values[free]
    instances[rows[free], columns[free]] = number
