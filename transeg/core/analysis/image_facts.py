"""What an image and its mask are like, in a few numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np

from transeg.core.data.labels import count_values
from transeg.core.interfaces import IGNORE, Sample

BUCKETS = 256
ENOUGH = 2**14
"""Pixels, at least, of an image whose grey levels are looked at."""
NEAR = 8
"""Grey levels of 256 that count as one value, smeared by JPEG."""
SEVERAL = 32
"""Grey levels that a picture has at least, and a mask has at most."""
RARE = 0.0005
"""Share of the pixels below which a grey level does not count."""
TWO_VALUES, SPREAD = 0.98, 0.7
"""Share of the pixels at the two commonest values: of masks at least, of photographs at most."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What was found of one image.

    Attributes:
        name: of the sample.
        group: of the sample.
        size: height and width.
        dtype: of its pixels.
        least: of its intensities, as they are given.
        most: likewise.
        mean: of its intensities, on a scale from black (0) to white (1).
        deviation: likewise.
        two_valued: whether it has the grey levels of a mask.
        pixel_size: in micrometres.
        classes: pixels of each class, ``(K,)``; None where there is no mask.
        unknown: pixels whose class is not known.
        objects: areas in pixels of what hangs together in the foreground, or is numbered.
    """

    name: str
    group: str
    size: tuple[int, int]
    dtype: str
    least: float
    most: float
    mean: float
    deviation: float
    two_valued: bool
    pixel_size: tuple[float, float] | None = None
    classes: np.ndarray | None = None
    unknown: int = 0
    objects: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


def image_facts(sample: Sample, classes: int) -> ImageFacts:
    """Look at a sample whose mask has the given number of classes, or more."""
    image = sample.image
    least, most = float(image.min()), float(image.max())
    counts, objects, unknown = None, np.zeros(0, np.int64), 0
    if sample.mask is not None:
        counts = count_values(sample.mask).astype(np.int64)  # bincount takes five times as long
        unknown = int(counts[IGNORE])
        counts = np.delete(counts, IGNORE)
        counts = counts[: max(classes, int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else 0)]
        objects = _areas(sample.mask, sample.instances)
    white = np.iinfo(image.dtype).max if np.issubdtype(image.dtype, np.integer) else 1.0
    means, deviations = cv2.meanStdDev(np.ascontiguousarray(image).reshape(image.shape[0], -1))
    step = max(1, math.isqrt(image.shape[0] * image.shape[1] // ENOUGH))
    return ImageFacts(
        sample.name,
        sample.group,
        sample.size,
        str(image.dtype),
        least,
        most,
        float(means.mean()) / white,
        float(deviations.mean()) / white,
        is_two_valued(grey_levels(image[::step, ::step, image.shape[2] // 2], white)),
        sample.pixel_size,
        counts,
        unknown,
        objects,
    )


def grey_levels(pixels: np.ndarray, white: float, counts: np.ndarray | None = None) -> np.ndarray:
    """How many intensities there are at each of 256 levels from 0 to white.

    Args:
        pixels: ``(H, W)``, or ``(N,)`` values.
        white: the greatest.
        counts: how often there is each of the values, ``(N,)``; None for once.
    """
    levels = pixels if pixels.dtype == np.uint8 and white == BUCKETS - 1 else pixels * ((BUCKETS - 1) / white)
    return np.bincount(np.clip(levels, 0, BUCKETS - 1).astype(np.uint8).ravel(), counts, minlength=BUCKETS)


def is_two_valued(levels: np.ndarray) -> bool:
    """Whether an image of such grey levels is black and white, or two other values, smeared at most."""
    return _at_two_values(levels) >= TWO_VALUES * levels.sum() and 1 < _several(levels) <= SEVERAL


def looks_like_photograph(levels: np.ndarray) -> bool:
    """Whether such grey levels are those of a photograph: many, and spread over the range."""
    return _several(levels) >= SEVERAL and _at_two_values(levels) < SPREAD * levels.sum()


def _several(levels: np.ndarray) -> int:
    return int((levels > RARE * levels.sum()).sum())


def _at_two_values(levels: np.ndarray) -> int:
    """Pixels at the two commonest levels and those near to them."""
    rest, total = levels.copy(), 0
    for _ in range(2):
        around = np.convolve(rest, np.ones(2 * NEAR + 1, rest.dtype), "same")
        middle = int(around.argmax())
        total += int(around[middle])
        rest[max(0, middle - NEAR) : middle + NEAR + 1] = 0
    return total


def _areas(mask: np.ndarray, instances: np.ndarray | None) -> np.ndarray:
    """Areas in pixels of single objects: of what is numbered, else of what hangs together (8-connected)."""
    inside = (mask > 0) & (mask != IGNORE)
    if instances is not None:
        areas = np.unique(instances[inside & (instances > 0)], return_counts=True)[1]
        return areas.astype(np.int64)
    left, top, width, height = cv2.boundingRect(inside.view(np.uint8))
    if not width:
        return np.zeros(0, np.int64)  # of no pixels, OpenCV ends the process
    around = inside[top : top + height, left : left + width].view(np.uint8)
    number, labels = cv2.connectedComponents(around, connectivity=8)
    return np.bincount(labels.ravel(), minlength=number)[1:]
