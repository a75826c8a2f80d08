"""Where on a slide there is tissue: what is coloured, where glass is grey."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from transeg.core.data.slide_file import SlideFile, nearest_places
from transeg.core.interfaces import Region

LONGEST = 2048
"""Pixels of the longer side of the picture in which tissue is looked for."""
FAINTEST, STRONGEST = 14, 30
"""Between these lies the colourfulness from which on there is tissue: that of glass is below, whatever Otsu's method
says of a slide that is all glass or all tissue."""


@dataclass(frozen=True, eq=False)
class TissueMap:
    """Where there is tissue, on a small picture of a slide.

    Attributes:
        found: ``(h, w)`` truth values.
    """

    found: np.ndarray

    def share(self, region: Region, size: tuple[int, int]) -> float:
        """The share of tissue in a region of the slide at a size: of the small picture's pixels that it touches."""
        top, bottom = _touched(region.top, region.height, size[0], self.found.shape[0])
        left, right = _touched(region.left, region.width, size[1], self.found.shape[1])
        return float(self.found[top:bottom, left:right].mean())

    def within(self, region: Region, size: tuple[int, int]) -> np.ndarray:
        """``(height, width)``: where in a region of the slide at a size there is tissue."""
        rows = nearest_places(region.top, region.height, size[0], self.found.shape[0])
        columns = nearest_places(region.left, region.width, size[1], self.found.shape[1])
        return self.found[rows[:, None], columns[None, :]]


@lru_cache(maxsize=64)
def map_tissue(slide: SlideFile) -> TissueMap:
    """Where a slide has tissue, with a little around it.

    The colourfulness of a pixel is how far apart its red, green and blue are: tissue that is stained has some, glass,
    shadows and the black around what was scanned have none. Otsu's method says from where on it is tissue.

    Raises:
        DataError: the slide is damaged.
    """
    picture = cv2.medianBlur(slide.overview(LONGEST).read_all(), 3)
    colourful = picture.max(axis=2) - picture.min(axis=2)
    said, _ = cv2.threshold(colourful, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    found = colourful > min(max(said, FAINTEST), STRONGEST)
    return TissueMap(cv2.dilate(found.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)


def _touched(start: int, length: int, size: int, given: int) -> tuple[int, int]:
    """The first of the pixels of a side of ``given`` that a stretch of one of ``size`` touches, and the one behind."""
    first = min(start * given // size, given - 1)
    return first, max(first + 1, min(given, -(-(start + length) * given // size)))
