"""Reads and writes images and label maps; resizes them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image

from transeg.core.data.decoded_image import DecodedImage, Range
from transeg.core.data.decoding import decode, decoded_size
from transeg.core.data.intensities import holds_for, to_unit
from transeg.core.data.labels import (
    binarise,
    black_and_white,
    count_values,
    foreground_begins,
    label_pixels,
    largest_of_channels,
    number_classes,
    whole_numbers,
)
from transeg.core.data.tiff import Tiff, open_tiff
from transeg.core.errors import DataError
from transeg.core.interfaces import Region

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".webp", ".gif", ".jp2"})

logger = logging.getLogger("transeg.data")
_said: set[tuple[Path, str]] = set()


def read_size(path: Path, page: int | None = None) -> tuple[int, int]:
    """Height and width of an image as :func:`read_image` gives it, from its header where the format allows.

    Raises:
        DataError: the file cannot be decoded.
    """
    tiff = open_tiff(path) if page is None else None
    return tiff.size if tiff is not None else decoded_size(path, page)


def read_image(path: Path, channels: int, region: Region | None = None, page: int | None = None) -> np.ndarray:
    """Decode an image.

    It comes upright, in RGB or grey, as its file says: by its orientation, colour space and palette.

    Args:
        path: PNG, JPEG, TIFF, BMP, PNM, WebP, GIF or JPEG 2000.
        channels: wanted; grey is repeated to three, colour is mixed to one, an alpha channel is dropped. Each such
            change is logged once for a folder.
        region: the part that is wanted; files that cannot be read in parts are decoded for it. None for all.
        page: which of several pages or frames, from 0.

    Returns:
        ``(H, W, channels)``, uint8, uint16 or float32 as stored, on whatever scale; see :func:`read_unit_image`.

    Raises:
        DataError: the file cannot be decoded, or its channels cannot be brought to the wanted number.
    """
    return _fitted(path, _picture(path, region, page), channels)


def read_unit_image(
    path: Path, channels: int, region: Region | None = None, range_: Range | None = None, page: int | None = None
) -> np.ndarray:
    """An image as :func:`read_image` gives it, on the one scale of all images.

    Args:
        path: the file.
        channels: wanted.
        region: the part that is wanted; None for all.
        range_: intensities that became 0 and 1 in images of its kind; where it is of another, what the file says holds,
            or the range of its type.
        page: of a stack, from 0; None where the file has one.

    Returns:
        ``(H, W, channels)``, uint8, uint16, or float32 in [0, 1].

    Raises:
        DataError: as for reading it; or floats are not finite or not between 0 and 1, and no range holds for them.
    """
    picture = _picture(path, region, page)
    pixels = _fitted(path, picture, channels)
    try:
        known = range_ if holds_for(range_, pixels) else picture.range
        return to_unit(pixels, known, partial(_say, path), "scale it to that range, or save it with 8 or 16 bits")
    except ValueError as fault:
        raise DataError(f"{path} {fault}.", str(path)) from fault


def _picture(path: Path, region: Region | None, page: int | None = None) -> DecodedImage:
    """A file or a part of it."""
    tiff = None if region is None or page is not None else open_tiff(path)
    if tiff is not None and region is not None:
        return DecodedImage(tiff.read(region), tiff.alpha, lossy=tiff.lossy, range=tiff.range)
    picture = decode(path, page).colours()
    return picture if region is None else replace(picture, pixels=crop(picture.pixels, region))


def _fitted(path: Path, picture: DecodedImage, channels: int) -> np.ndarray:
    """A picture's pixels in the wanted number of channels."""
    say = partial(_say, path)
    for note in picture.notes:
        say(note)
    try:
        pixels = fit_type(picture.pixels)
    except ValueError as fault:
        raise DataError(f"{path} {fault}.", str(path)) from fault
    fitting = fit_channels(pixels, channels, say, alpha=picture.alpha)
    if fitting is None:
        found = pixels.shape[2]
        raise DataError(
            f"{path} has {found} channels, not {channels}; say so with the dataset's option channels={found}.",
            str(path),
        )
    return fitting


def fit_type(pixels: np.ndarray) -> np.ndarray:
    """Pixels as uint8, uint16 or float32.

    Args:
        pixels: as decoded.

    Raises:
        ValueError: they are no such numbers; a clause.
    """
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * 255
    if pixels.dtype in (np.uint8, np.uint16, np.float32):
        return pixels
    if pixels.dtype.kind not in "iuf":
        raise ValueError(f"has pixels of type {pixels.dtype}; convert it to 8 or 16 bits")
    return pixels.astype(np.float32)


def fit_channels(pixels: np.ndarray, channels: int, say: Callable[[str], None], *, alpha: bool) -> np.ndarray | None:
    """``(H, W, C)`` with the wanted number of channels, as :func:`read_image` says; None where that cannot be.

    Args:
        pixels: uint8, uint16 or float32.
        channels: wanted.
        say: told of what changes.
        alpha: whether the last channel is opacity.
    """
    found = pixels.shape[2]
    if alpha and found != channels:
        say("has an alpha channel, which is ignored")
        pixels = pixels[:, :, : found - 1]
        found -= 1
    if found == channels:
        return np.ascontiguousarray(pixels)
    if found == 1 and channels == 3:
        say("is grey in a set of colour images; its channel is repeated")
        return np.repeat(pixels, 3, axis=2)
    if found == 3 and channels == 1:
        say("is coloured in a set of grey images; its luminance is taken")
        return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)[:, :, None]
    return None


def read_binary_mask(path: Path, region: Region | None = None, page: int | None = None) -> np.ndarray:
    """Decode a mask of one class: above half of its range is foreground.

    Lossy files smear the two values, so no exact value is compared. A mask whose values are just 0 and 1 is taken as it
    is, a palette of black and white by its colours. An alpha channel is ignored, unless nothing else varies, and the
    largest of the colours counts.

    Args:
        path: the file.
        region: the part that is wanted, cut by the range of the whole; None for all.
        page: which of several pages or frames, from 0.

    Returns:
        ``(H, W)`` uint8 of 0 and 1.

    Raises:
        DataError: the file cannot be decoded, or its values are neither 0 and 1 nor black and white.
    """
    tiff = None if region is None or page is not None else _labels_in_parts(path)
    try:
        if tiff is not None and region is not None:
            values = largest_of_channels(_as_labels(path, DecodedImage(tiff.read(region))).pixels)
            return (values >= _foreground_begins(path, tiff)).astype(np.uint8)
        picture = _as_labels(path, decode(path, page))
        shown = black_and_white(picture, 255, shown=True)
        mask = (
            binarise(largest_of_channels(picture.pixels), picture.lossy, picture.range)
            if shown is None
            else (shown > 0).astype(np.uint8)
        )
    except ValueError as fault:
        raise DataError(f"{path} {fault}.", str(path)) from fault
    return mask if region is None else crop(mask, region)


def read_label_map(
    path: Path, values: Mapping[int, int], region: Region | None = None, page: int | None = None
) -> np.ndarray:
    """Decode a mask of several classes.

    Args:
        path: a lossless file.
        values: class of every pixel value.
        region: the part that is wanted; None for all.
        page: which of several pages or frames, from 0.

    Returns:
        ``(H, W)`` uint8 of classes.

    Raises:
        DataError: a lossy format, or a value that stands for no class.
    """
    white = 255 if 255 in values and 1 not in values else 1
    try:
        return number_classes(_label_values(path, "a label map", region, page, white), values)
    except ValueError as fault:
        raise DataError(f"{path} {fault}.", str(path)) from fault


def read_grey(path: Path) -> np.ndarray:
    """``(H, W)`` values of a mask as they are stored: an alpha channel is ignored, the largest of the colours counts.

    Raises:
        DataError: a lossy format, or the file cannot be decoded.
    """
    return _label_values(path, "a label map")


def read_instances(path: Path, page: int | None = None) -> np.ndarray:
    """Decode a map of numbered objects; 0 is where there is none.

    Args:
        path: a lossless file; an alpha channel is ignored, a palette counts by its indices.
        page: which of several pages or frames, from 0.

    Returns:
        ``(H, W)`` int32.

    Raises:
        DataError: a lossy format, colours, or fractions.
    """
    picture = _lossless(path, decode(path, page), "an instance map")
    try:
        pixels = whole_numbers(picture.pixels)
    except ValueError as fault:
        raise DataError(f"{path} is an instance map that {fault}.", str(path)) from fault
    if (pixels != pixels[:, :, :1]).any():
        raise DataError(f"{path} is coloured, but an instance map holds one number per pixel.", str(path))
    return np.asarray(pixels[:, :, 0], dtype=np.int32)


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Write ``(H, W)`` or ``(H, W, C)`` uint8 or uint16 as PNG, or as TIFF or, 8 bits, JPEG where the path says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    squeezed = pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    if path.suffix == ".tif":
        tifffile.imwrite(path, squeezed, photometric="minisblack", planarconfig="contig")
    elif path.suffix == ".jpg":
        Image.fromarray(squeezed).save(path, quality=90, subsampling=0)  # thin lines keep their colour
    else:
        Image.fromarray(squeezed).save(path, compress_level=1)  # of photographs: a quarter of the time, a tenth larger


def lossless_suffix(channels: int) -> str:
    """The ending of a format that holds this number of channels."""
    return ".png" if channels in (1, 3) else ".tif"


def unit_range(pixels: np.ndarray) -> np.ndarray:
    """uint8 as it is; anything else as float32 in [0, 1]."""
    if pixels.dtype == np.uint16:
        return pixels.astype(np.float32) / 65535
    return pixels


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """``(H, W, C)`` to another size: area means where it shrinks, linear interpolation where it grows."""
    if pixels.shape[:2] == (height, width):
        return pixels
    shrinks = pixels.shape[0] * pixels.shape[1] > height * width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    chunks = [  # OpenCV's area means take at most four channels
        cv2.resize(np.ascontiguousarray(pixels[:, :, first : first + 4]), (width, height), interpolation=method)
        for first in range(0, pixels.shape[2], 4)
    ]
    resized = [chunk.reshape(height, width, -1) for chunk in chunks]
    return resized[0] if len(resized) == 1 else np.concatenate(resized, axis=2)


def resize_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """``(H, W)`` label map to another size, nearest neighbour."""
    if mask.shape == (height, width):
        return mask
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def renumber_instances(instances: np.ndarray) -> np.ndarray:
    """Object numbers ``(H, W)`` as uint16, which every transform takes: counted anew where they are larger."""
    if instances.max(initial=0) < 2**16:
        return instances.astype(np.uint16)
    return np.unique(instances, return_inverse=True)[1].reshape(instances.shape).astype(np.uint16)


def crop(pixels: np.ndarray, region: Region) -> np.ndarray:
    """A copy of a part of ``(H, W)`` or ``(H, W, C)``, so that the whole may be forgotten."""
    return pixels[region.top : region.top + region.height, region.left : region.left + region.width].copy()


def _label_values(
    path: Path, what: str, region: Region | None = None, page: int | None = None, white: int = 1
) -> np.ndarray:
    """``(H, W)`` values of a lossless label map, or of a region of it."""
    tiff = None if region is None or page is not None else _labels_in_parts(path)
    if tiff is not None and region is not None:
        return largest_of_channels(_lossless(path, DecodedImage(tiff.read(region), lossy=tiff.lossy), what).pixels)
    picture = _lossless(path, decode(path, page), what)
    values = black_and_white(picture, white)
    values = largest_of_channels(picture.pixels) if values is None else values
    return values if region is None else crop(values, region)


def _labels_in_parts(path: Path) -> Tiff | None:
    """A mask of which parts tell what the whole does: not where its labels may be in its alpha channel."""
    tiff = open_tiff(path)
    return None if tiff is None or tiff.alpha else tiff


def _as_labels(path: Path, picture: DecodedImage) -> DecodedImage:
    return label_pixels(picture, partial(_say, path))


def _lossless(path: Path, picture: DecodedImage, what: str) -> DecodedImage:
    if picture.lossy:
        raise DataError(f"{path} is {what} stored as JPEG, which changes its values; store it as PNG.", str(path))
    return _as_labels(path, picture)


@lru_cache(maxsize=4096)
def _foreground_begins(path: Path, tiff: Tiff) -> int:
    """As the whole says, a few rows at a time: a region alone does not tell 1 from the noise of 0."""
    height, width = tiff.size
    counts = np.zeros(256)
    for top in range(0, height, 256):
        rows = tiff.read(Region(top, 0, min(256, height - top), width))
        more = count_values(largest_of_channels(_as_labels(path, DecodedImage(rows)).pixels))
        longer = max(len(counts), len(more))
        counts = np.pad(counts, (0, longer - len(counts))) + np.pad(more, (0, longer - len(more)))
    return foreground_begins(counts, tiff.lossy, tiff.range)


def _say(path: Path, what: str) -> None:
    if (path.parent, what) not in _said:
        _said.add((path.parent, what))
        logger.warning("%s %s (reported once for its folder).", path, what)
