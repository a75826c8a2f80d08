"""Counts the objects of a label map: nuclei, polyps, axons. docs/decisions/counting.md compares the ways to do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from transeg.core.errors import UsageError, did_you_mean
from transeg.core.interfaces import IGNORE
from transeg.core.optional_packages import require

NEIGHBOURS = np.ones((3, 3), dtype=bool)
"""Pixels that touch at a corner belong together (8-connected)."""
PROMINENCE = 1.0
"""By how many pixels an object must grow wider again beyond a narrow place for a watershed to split it there."""

Region = tuple[int, float, float]
"""Area in pixels, and row and column of the centroid; (0, 0) is the middle of the first pixel."""


@dataclass(frozen=True, slots=True)
class CountedObject:
    """One object of a label map.

    Attributes:
        label: its class.
        area: in pixels.
        row: of its centroid; 0 is the middle of the first row.
        column: likewise.
    """

    label: int
    area: int
    row: float
    column: float


@dataclass(frozen=True)
class ObjectMap:
    """Single objects of a label map, none of which overlaps another.

    Attributes:
        numbers: ``(H, W)`` integers: 1 to n in the objects, 0 where there is none.
        labels: ``(n,)`` their classes.
        areas: ``(n,)`` in pixels.
    """

    numbers: np.ndarray
    labels: np.ndarray
    areas: np.ndarray

    def objects(self) -> list[CountedObject]:
        """They one by one, in the order of their numbers."""
        regions = zip(self.labels, _regions(self.numbers), strict=True)
        return [CountedObject(int(label), *region) for label, region in regions]


@dataclass(frozen=True)
class Counting:
    """How objects are counted.

    Attributes:
        method: one of :data:`METHODS`.
        min_area: smaller objects, in pixels, do not count.

    Raises:
        UsageError: the method needs a package that is not installed.
    """

    method: str = "components"
    min_area: int = 0

    def __post_init__(self) -> None:
        if self.method == "watershed":
            require("skimage", "watershed", "--count-method watershed")

    def __call__(self, mask: np.ndarray) -> list[CountedObject]:
        """The objects of each class.

        Args:
            mask: ``(H, W)`` label map; neither background (0) nor IGNORE is an object.
        """
        found = self.map_of(mask)
        return self._outlined(mask) if found is None else found.objects()

    def map_of(self, mask: np.ndarray) -> ObjectMap | None:
        """The objects of each class with their pixels; None where the method finds objects that overlap.

        Args:
            mask: as in a call.
        """
        if self.method not in PARTITIONS:
            return None
        numbers, labels = np.zeros(mask.shape, dtype=np.int64), np.zeros(0, dtype=np.int64)
        for label in _classes(mask):
            own = PARTITIONS[self.method](mask == label)
            numbers += np.where(own > 0, own + len(labels), 0)
            labels = np.append(labels, np.full(int(own.max()), label))
        return self._large(numbers, labels)

    def numbered(self, instances: np.ndarray, mask: np.ndarray) -> ObjectMap:
        """The objects that are numbered already; the method does not matter to them.

        Args:
            instances: ``(H, W)`` numbers of single objects, 0 where there is none.
            mask: ``(H, W)`` label map; an object is what is foreground of it, of the class that is the commonest there.
        """
        inside = (instances > 0) & (mask > 0) & (mask != IGNORE)
        found, index = np.unique(instances[inside], return_inverse=True)
        numbers = np.zeros(mask.shape, dtype=np.int64)
        numbers[inside] = index + 1
        classes = np.zeros((len(found), int(mask[inside].max(initial=0)) + 1), dtype=np.int64)
        np.add.at(classes, (index, mask[inside]), 1)
        return self._large(numbers, classes.argmax(1))

    def _outlined(self, mask: np.ndarray) -> list[CountedObject]:
        found = [CountedObject(label, *region) for label in _classes(mask) for region in _contours(mask == label)]
        return [each for each in found if each.area >= self.min_area]

    def _large(self, numbers: np.ndarray, labels: np.ndarray) -> ObjectMap:
        """Without small objects, and without gaps where they were."""
        areas = np.bincount(numbers.ravel(), minlength=len(labels) + 1)[1:]
        large = areas >= self.min_area
        renumbered = np.append(0, np.where(large, large.cumsum(), 0))
        return ObjectMap(numbers if large.all() else renumbered[numbers], labels[large], areas[large])


def counting_from_options(count: bool, method: str | None, min_area: int | None) -> Counting | None:
    """What `--count`, `--count-method` and `--min-area` say; None where nothing is to be counted.

    Raises:
        UsageError: an option says how to count what is not counted, or there is no such method.
    """
    if not count:
        for option, value in (("--count-method", method), ("--min-area", min_area)):
            if value is not None:
                raise UsageError(f"{option} says how to count objects; say --count, too.")
        return None
    if method is not None and method not in METHODS:
        raise UsageError(f"There is no --count-method {method!r}.{did_you_mean(method, METHODS)}")
    return Counting(method or "components", min_area or 0)


def _classes(mask: np.ndarray) -> list[int]:
    """Those of a label map that have objects."""
    return [int(label) for label in np.unique(mask) if label not in (0, IGNORE)]


def _components(region: np.ndarray) -> np.ndarray:
    """What hangs together, corners included."""
    from scipy.ndimage import label

    numbers: np.ndarray = label(region, NEIGHBOURS)[0]
    return numbers


def _contours(region: np.ndarray) -> list[Region]:
    """Outlines, as a tutorial counts them: that of a hole counts, too, and each has the area that it encloses."""
    outlines = cv2.findContours(region.astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
    return [_enclosed(outline) for outline in outlines]


def _enclosed(outline: np.ndarray) -> Region:
    """The pixels on an outline and within it."""
    left, top, width, height = cv2.boundingRect(outline)
    canvas = np.zeros((height, width), dtype=np.uint8)
    cv2.drawContours(canvas, [outline], 0, 1, cv2.FILLED, offset=(-left, -top))
    rows, columns = np.nonzero(canvas)
    return len(rows), float(rows.mean()) + top, float(columns.mean()) + left


def _watershed(region: np.ndarray) -> np.ndarray:
    """Touching objects parted where they are narrow: a watershed on the distance to what is outside.

    Each top of the distance that stands at least :data:`PROMINENCE` above the way to a higher one is an object
    (Vincent & Soille, doi:10.1109/34.87344; tops by their dynamics, Grimaud, doi:10.1117/12.60650).
    """
    from scipy.ndimage import distance_transform_edt, find_objects, label
    from skimage.morphology import h_maxima
    from skimage.segmentation import watershed

    components = label(region, NEIGHBOURS)[0]
    numbers, found = np.zeros_like(components), 0
    for number, place in enumerate(find_objects(components), start=1):
        own = np.pad(components[place] == number, 1)
        distance = distance_transform_edt(own)
        tops, count = label(h_maxima(distance, PROMINENCE), NEIGHBOURS)
        parts = watershed(-distance, tops, connectivity=NEIGHBOURS, mask=own) if count > 1 else own.astype(np.int64)
        parts = parts[1:-1, 1:-1]
        numbers[place] += np.where(parts > 0, parts + found, 0)
        found += int(parts.max())
    return numbers


PARTITIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"components": _components, "watershed": _watershed}
"""Ways to part ``(H, W)`` bool into objects: ``(H, W)`` numbers 1, 2, ... without a gap; 0 is none."""
METHODS = ("components", "contours", "watershed")
"""Ways to find objects; those of contours overlap."""


def _regions(numbered: np.ndarray) -> list[Region]:
    """Those of ``(H, W)`` numbers 1, 2, ... without a gap; 0 is none."""
    rows, columns = np.nonzero(numbered)
    numbers = numbered[rows, columns]
    areas = np.bincount(numbers)[1:]
    centres = (np.bincount(numbers, axis)[1:] / areas for axis in (rows, columns))
    return [(int(area), float(row), float(column)) for area, row, column in zip(areas, *centres, strict=True)]
