"""The objects of a predicted mask, with their outlines and how sure the network is of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transeg.core.analysis.counting import NEIGHBOURS
from transeg.core.analysis.pixel_edges import Rings, trace_parts


@dataclass(frozen=True, slots=True)
class PredictedObject:
    """What hangs together of a class, corners included, as :mod:`transeg.core.analysis.counting` counts it.

    Attributes:
        label: its class.
        confidence: mean probability of its class over its pixels.
        top: its first row.
        left: its first column.
        inside: ``(h, w)`` truth values, from there on.
        parts: as :func:`transeg.core.analysis.pixel_edges.trace_parts` gives them, within the whole image.
    """

    label: int
    confidence: float
    top: int
    left: int
    inside: np.ndarray
    parts: list[Rings]

    @property
    def shown_confidence(self) -> float:
        """To four decimals, as files say it."""
        return round(self.confidence, 4)

    @property
    def first(self) -> tuple[int, int]:
        """Row and column of its first pixel, row by row: no other object has it."""
        return self.top, self.left + int(self.inside[0].argmax())


Documents = Callable[[Path, tuple[int, int], Sequence[PredictedObject]], dict[Path, bytes]]
"""From an image's file, its height and width, and its objects: the files to write, by their places."""


def predicted_objects(mask: np.ndarray, probabilities: np.ndarray) -> Iterator[PredictedObject]:
    """The objects of each class, by the rows of their first pixels.

    Args:
        mask: ``(H, W)`` label map.
        probabilities: ``(K - 1, H, W)`` of the classes but background.
    """
    from scipy.ndimage import find_objects, label

    for number in range(1, len(probabilities) + 1):
        region = mask == number
        numbers, count = label(region, NEIGHBOURS)
        if not count:
            continue
        areas = np.bincount(numbers[region], minlength=count + 1)[1:]
        sums = np.bincount(numbers[region], probabilities[number - 1][region], count + 1)[1:]
        parts: list[list[Rings]] = [[] for _ in range(count)]
        for rings in trace_parts(region):
            column, row = rings[0][np.lexsort(rings[0].T)[0]]  # its upper left corner is that of a pixel inside
            parts[numbers[row, column] - 1].append(rings)
        for index, box in enumerate(find_objects(numbers)):
            inside = numbers[box] == index + 1
            place = box[0].start, box[1].start
            yield PredictedObject(number, float(sums[index] / areas[index]), *place, inside, parts[index])
