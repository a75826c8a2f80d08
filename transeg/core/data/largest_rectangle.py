"""The largest rectangle within a shape: what can be cut out of an image whose corners show nothing."""

from __future__ import annotations

import numpy as np

from transeg.core.data.images import crop
from transeg.core.interfaces import Region, Sample

SIDE = 256
"""Longest side at which a shape is looked at where some pixels more or less do not matter."""


def shown_part(sample: Sample) -> np.ndarray:
    """The largest rectangle ``(H, W, C)`` of an image that shows something throughout, to some pixels.

    An image that shows nothing anywhere is returned whole.
    """
    if sample.valid is None or sample.valid.all() or not sample.valid.any():
        return sample.image
    step = -(-max(sample.size) // SIDE)
    return crop(sample.image, Region(*(step * side for side in largest_rectangle(sample.valid[::step, ::step]))))


def largest_rectangle(inside: np.ndarray) -> Region:
    """The largest rectangle, by area, within what is true of ``(H, W)``; of no area where nothing is."""
    best = Region(0, 0, 0, 0)
    heights = np.zeros(inside.shape[1], int)
    for bottom, row in enumerate(inside):
        heights = np.where(row, heights + 1, 0)
        open_ones: list[tuple[int, int]] = []  # where rectangles begin, and how high they are, ascending
        for column, height in enumerate([*heights.tolist(), 0]):
            left = column
            while open_ones and open_ones[-1][1] >= height:
                left, high = open_ones.pop()
                if high * (column - left) > best.height * best.width:
                    best = Region(bottom - high + 1, left, high, column - left)
            open_ones.append((left, height))
    return best
