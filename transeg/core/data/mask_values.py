"""The values of mask files as they are stored, before anything says what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from transeg.core.data.decoded_image import DecodedImage
from transeg.core.data.decoding import decode
from transeg.core.data.images import EXTENSIONS
from transeg.core.data.labels import black_and_white, count_values, label_pixels, largest_of_channels
from transeg.core.errors import DataError

MANY = 2**26
"""Bytes of decoded files from which on no more are kept: some images have a mask for each of hundreds of objects."""


def stored_values(paths: Sequence[Path], keep: dict[Path, DecodedImage] | None = None) -> np.ndarray | None:
    """Values of mask files, and how often there are: ``(2, N)``.

    None where they are no images, cannot be decoded or hold fractions: who reads them says so.

    Args:
        paths: the files.
        keep: gets what was decoded, as long as that is not much, for who reads the files next.
    """
    counts: dict[int, int] = {}
    for path in paths:
        if path.suffix.lower() not in EXTENSIONS:
            return None
        try:
            stored = decode(path)
        except DataError:
            return None
        if keep is not None and sum(each.pixels.nbytes for each in keep.values()) < MANY:
            keep[path] = stored
        picture = label_pixels(stored, lambda _: None)
        pixels = black_and_white(picture, 255, shown=True)
        pixels = largest_of_channels(picture.pixels) if pixels is None else pixels
        if not np.issubdtype(pixels.dtype, np.integer):
            return None
        if pixels.dtype == np.uint8:
            found = count_values(pixels).astype(np.int64)
            values = np.flatnonzero(found)
            found = found[values]
        else:
            values, found = np.unique(pixels, return_counts=True)
        for value, count in zip(values.tolist(), found.tolist(), strict=True):
            counts[value] = counts.get(value, 0) + count
    return np.array([list(counts), list(counts.values())], np.int64).reshape(2, -1)
