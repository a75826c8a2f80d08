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
        found = {int(number): METHODS[self.method](mask == number) for number in np.unique(mask)}
        return self._large(
            [
                CountedObject(number, *region)
                for number in found
                if number not in (0, IGNORE)
                for region in found[number]
            ]
        )

    def numbered(self, instances: np.ndarray, mask: np.ndarray) -> list[CountedObject]:
        """The objects that are numbered already; the method does not matter to them.

        Args:
            instances: ``(H, W)`` numbers of single objects, 0 where there is none.
            mask: ``(H, W)`` label map; an object is what is foreground of it, of the class that is the commonest there.
        """
        inside = (instances > 0) & (mask > 0) & (mask != IGNORE)
        numbers, index = np.unique(instances[inside], return_inverse=True)
        numbered = np.zeros(mask.shape, dtype=np.int64)
        numbered[inside] = index + 1
        classes = np.zeros((len(numbers), int(mask[inside].max(initial=0)) + 1), dtype=np.int64)
        np.add.at(classes, (index, mask[inside]), 1)
        labels = classes.argmax(1)
        pairs = zip(labels, _regions(numbered), strict=True)
        return self._large([CountedObject(int(number), *region) for number, region in pairs])

    def _large(self, objects: list[CountedObject]) -> list[CountedObject]:
        return [found for found in objects if found.area >= self.min_area]


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


def _components(region: np.ndarray) -> list[Region]:
    """What hangs together, corners included."""
    from scipy.ndimage import label

    return _regions(label(region, NEIGHBOURS)[0])


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


def _watershed(region: np.ndarray) -> list[Region]:
    """Touching objects parted where they are narrow: a watershed on the distance to what is outside.

    Each top of the distance that stands at least :data:`PROMINENCE` above the way to a higher one is an object
    (Vincent & Soille, doi:10.1109/34.87344; tops by their dynamics, Grimaud, doi:10.1117/12.60650).
    """
    from scipy.ndimage import distance_transform_edt, find_objects, label
    from skimage.morphology import h_maxima
    from skimage.segmentation import watershed

    components = label(region, NEIGHBOURS)[0]
    found = []
    for number, place in enumerate(find_objects(components), start=1):
        own = np.pad(components[place] == number, 1)
        distance = distance_transform_edt(own)
        tops, count = label(h_maxima(distance, PROMINENCE), NEIGHBOURS)
        parts = watershed(-distance, tops, connectivity=NEIGHBOURS, mask=own) if count > 1 else own.astype(np.int64)
        top, left = (side.start - 1 for side in place)
        found += [(area, row + top, column + left) for area, row, column in _regions(parts)]
    return found


METHODS: dict[str, Callable[[np.ndarray], list[Region]]] = {
    "components": _components,
    "contours": _contours,
    "watershed": _watershed,
}
"""Ways to find the objects in ``(H, W)`` bool."""


def _regions(numbered: np.ndarray) -> list[Region]:
    """Those of ``(H, W)`` numbers 1, 2, ... without a gap; 0 is none."""
    rows, columns = np.nonzero(numbered)
    numbers = numbered[rows, columns]
    areas = np.bincount(numbers)[1:]
    centres = (np.bincount(numbers, axis)[1:] / areas for axis in (rows, columns))
    return [(int(area), float(row), float(column)) for area, row, column in zip(areas, *centres, strict=True)]
