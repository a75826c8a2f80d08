"""What the values of masks and label maps mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce

import cv2
import numpy as np

from transeg.core.data.decoded_image import DecodedImage, Range

BLACK_AND_WHITE = frozenset({(0, 0, 0), (255, 255, 255)})
HALF = 127
SMEARED = 16
"""Of 255: as far as JPEG takes values from black and white, mostly."""
FEW = 16
"""Values, at most, of masks that are numbered or painted; where JPEG or a resizing smeared two, there are more."""
STANDS_OUT = 0.1
"""Share of what is not black that one value has where it means something of its own."""
PILED = 0.15
"""Likewise, of a value and its neighbours between black and white, where values are smeared."""


def label_pixels(image: DecodedImage, say: Callable[[str], None]) -> DecodedImage:
    """The values of labels: ``(H, W, C)`` without opacity; truth values as indices of black and white.

    Where the colours are all one and opacity is not, the labels are in that.
    """
    pixels, alpha = image.pixels, image.alpha
    if alpha:
        colours = pixels[:, :, :-1]
        painted = pixels[:, :, -1:]
        if (colours == colours[:1, :1]).all() and (painted != painted[:1, :1]).any():
            say("has its labels in its alpha channel, which is taken")
            pixels = painted
        else:
            say("has an alpha channel, which is ignored")
            pixels = colours
    palette = image.palette
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
        palette = np.array([[0] * 3, [255] * 3], np.uint8) if pixels.shape[2] == 1 else None
    return DecodedImage(pixels, palette=palette, lossy=image.lossy, range=image.range)


def black_and_white(image: DecodedImage, white: int, *, shown: bool = False) -> np.ndarray | None:
    """``(H, W)`` uint8 of 0 and ``white`` by the colours of a palette of black and white; None for any other.

    A program may number these either way, so that the indices say nothing.

    Args:
        image: of labels.
        white: what stands for white.
        shown: whether it is enough that no other colour is used: some programs fill palettes up.
    """
    if image.palette is None:
        return None
    colours = {tuple(map(int, colour[:3])) for colour in image.palette}
    if shown and colours != BLACK_AND_WHITE:
        used = np.flatnonzero(np.bincount(image.pixels.ravel(), minlength=len(image.palette)))
        colours = {tuple(map(int, colour[:3])) for colour in image.palette[used]}
    if colours != BLACK_AND_WHITE:
        return None
    table = np.where(image.palette[:, 0] > 0, white, 0).astype(np.uint8)
    return table[image.pixels[:, :, 0]]


def largest_of_channels(pixels: np.ndarray) -> np.ndarray:
    """``(H, W, C)`` -> ``(H, W)``."""
    channels = np.moveaxis(pixels, 2, 0)
    return reduce(np.maximum, channels[1:], channels[0])  # .max(axis=2) takes 25 times as long, and as long as all else


def binarise(pixels: np.ndarray, lossy: bool = False, range_: Range | None = None) -> np.ndarray:
    """Values of a mask of one class as uint8 of 0 and 1.

    Args:
        pixels: ``(H, W)`` numbers.
        lossy: whether JPEG may have smeared them.
        range_: values that mean black and white, where a file says so.

    Raises:
        ValueError: what the values mean cannot be told; a clause.
    """
    begins = _plain_foreground(pixels, lossy) or foreground_begins(count_values(pixels), lossy, range_)
    return (pixels >= begins).view(np.uint8)


def _plain_foreground(pixels: np.ndarray, lossy: bool) -> int | None:
    """As :func:`foreground_begins` says, of what is plainly black and white, without counting each value: that takes as
    long as decoding. None of all else.
    """
    if pixels.dtype != np.uint8:
        return None
    largest = int(pixels.max(initial=0))
    if largest <= 1:
        return 1
    if largest <= HALF:
        return None
    shown = cv2.countNonZero(pixels)
    if cv2.countNonZero(cv2.inRange(pixels, largest, largest)) == shown:
        return HALF + 1
    between = cv2.countNonZero(cv2.inRange(pixels, 2 * SMEARED, 254 - 2 * SMEARED)) if lossy else shown
    return HALF + 1 if between < PILED * shown else None


def whole_numbers(pixels: np.ndarray) -> np.ndarray:
    """Floats that are whole numbers as int64; integers as they are.

    Raises:
        ValueError: there are fractions, or values that are not finite; a clause.
    """
    if not np.issubdtype(pixels.dtype, np.floating):
        return pixels
    whole = pixels.astype(np.int64) if np.isfinite(pixels).all() else None
    if whole is None or (whole != pixels).any():
        raise ValueError(f"has values of type {pixels.dtype} that are no whole numbers, so they are no labels")
    return whole


def count_values(pixels: np.ndarray) -> np.ndarray:
    """How many pixels have each value from 0 on: ``(256,)``, or as many as it takes.

    Raises:
        ValueError: values are negative, or too large to be a mask's; a clause.
    """
    if pixels.dtype in (np.uint8, np.uint16):
        bins = 2 ** (8 * pixels.dtype.itemsize)
        return cv2.calcHist([np.ascontiguousarray(pixels)], [0], None, [bins], [0, bins]).ravel()
    pixels = whole_numbers(pixels)
    least, most = int(pixels.min(initial=0)), int(pixels.max(initial=0))
    if least < 0 or most >= 2**16:
        raise ValueError(f"has values from {least} to {most}; {_cure(0, most)}")
    return np.bincount(pixels.ravel(), minlength=256)


def foreground_begins(counts: np.ndarray, lossy: bool = False, range_: Range | None = None) -> int:
    """The first value that is foreground in a mask of one class: 1 where there are 0 and 1 alone, else half of 255.

    Args:
        counts: of each value in the whole mask.
        lossy: whether JPEG may have smeared the values.
        range_: values that mean black and white, where a file says so.

    Raises:
        ValueError: what the values mean cannot be told; a clause.
    """
    found = np.flatnonzero(counts)
    largest = int(found[-1]) if len(found) else 0
    if largest <= 1:
        return 1
    if range_ is not None and set(found.tolist()) <= set(range_):
        return largest
    unit = 257 if largest > 255 else 1
    half = (255 * unit) // 2 + 1
    if len(found) == 1 or _are_clear(counts, found, half, unit, lossy):
        return half
    some = ", ".join(map(str, found[:5].tolist())) + (f" and up to {largest}" if len(found) > 5 else "")
    raise ValueError(f"is a mask of one class with the values {some}; {_cure(int(found[0]), largest)}")


def _are_clear(counts: np.ndarray, found: np.ndarray, half: int, unit: int, lossy: bool) -> bool:
    """Whether values are black and white, or smeared from these."""
    if found[-1] < half:
        return lossy and bool(found[-1] <= SMEARED)
    others = counts.copy()
    others[[found[0], found[-1]]] = 0
    others[(255 - SMEARED) * unit :] = 0
    shown = float(counts[1:].sum())
    if len(found) > FEW or lossy:
        between = others[2 * SMEARED * unit : (255 - 2 * SMEARED) * unit]
        around = np.convolve(_coarse(between, unit), np.ones(SMEARED + 1))
        return bool(around.max(initial=0) < PILED * shown)
    smeared_white = counts[(255 - SMEARED) * unit : found[-1]].sum() > 0
    if smeared_white:
        others[: SMEARED * unit + 1] = 0
    return bool(others.max(initial=0) < STANDS_OUT * shown)


def _coarse(counts: np.ndarray, unit: int) -> np.ndarray:
    return counts if unit == 1 else np.add.reduceat(counts, np.arange(0, len(counts), unit))


def _cure(background: int, foreground: int) -> str:
    return (
        f"say which stand for the classes with the option values, as in values={background},{foreground}, or store it "
        "with 0 and 255"
    )


def number_classes(pixels: np.ndarray, values: Mapping[int, int]) -> np.ndarray:
    """Values of a mask of several classes as uint8 of classes.

    Args:
        pixels: ``(H, W)`` numbers, which are whole.
        values: class of every value.

    Raises:
        ValueError: a value stands for no class, or is no whole number; a clause.
    """
    pixels = whole_numbers(pixels)
    keys = np.array(sorted(values))
    if pixels.dtype == np.uint8:
        unknown = [value for value in np.flatnonzero(count_values(pixels)).tolist() if value not in values]
    else:
        unknown = sorted(set(np.unique(pixels).tolist()) - set(values))
    if unknown:
        raise ValueError(f"has the pixel values {unknown[:5]}, which stand for no class of {sorted(values)}")
    classes = np.array([values[key] for key in keys.tolist()], np.uint8)
    if keys[0] < 0 or keys[-1] >= 2**16:
        return classes[np.searchsorted(keys, pixels)]
    table = np.zeros(int(keys[-1]) + 1, dtype=np.uint8)
    table[keys] = classes
    return np.asarray(table[pixels])
