"""Reads and writes images and label maps; resizes them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache, partial, reduce
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image

from transeg.core.data.tiff import SUFFIXES as TIFF_SUFFIXES
from transeg.core.data.tiff import Tiff, open_tiff
from transeg.core.errors import DataError
from transeg.core.interfaces import Region

Image.MAX_IMAGE_PIXELS = 2**30  # OpenCV's limit; Pillow's own refuses scans of 15,855 pixels a side

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".webp"})

logger = logging.getLogger("transeg.data")
_said: set[tuple[Path, str]] = set()


def read_size(path: Path) -> tuple[int, int]:
    """Height and width of an image, from its header where the format allows.

    Raises:
        DataError: the file cannot be decoded.
    """
    tiff = open_tiff(path)
    if tiff is not None:
        return tiff.size
    if path.suffix.lower() in TIFF_SUFFIXES:
        height, width = _decode(path).shape[:2]
        return height, width
    _refuse_endless(path)
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Exception as error:
        raise DataError(f"{path} cannot be decoded: {str(error) or type(error).__name__}.", str(path)) from error


def read_image(path: Path, channels: int, region: Region | None = None) -> np.ndarray:
    """Decode an image.

    Args:
        path: PNG, JPEG, TIFF, BMP, PNM or WebP, of 8, 16 or 32 bits.
        channels: wanted; grey is repeated to three, colour is mixed to one, an alpha channel is dropped. Each such
            change is logged once for a folder.
        region: the part that is wanted; files that cannot be read in parts are decoded for it. None for all.

    Returns:
        ``(H, W, channels)``, uint8, uint16 or float32 as stored.

    Raises:
        DataError: the file cannot be decoded, or its channels cannot be brought to the wanted number.
    """
    say = partial(_say, path)
    try:
        pixels = fit_type(_decode(path, region), say)
    except ValueError as fault:
        raise DataError(f"{path} {fault}.", str(path)) from fault
    fitting = fit_channels(pixels, channels, say)
    if fitting is None:
        found = pixels.shape[2]
        raise DataError(
            f"{path} has {found} channels, not {channels}; say so with the dataset's option channels={found}.",
            str(path),
        )
    return fitting


def fit_type(pixels: np.ndarray, say: Callable[[str], None]) -> np.ndarray:
    """Pixels as uint8, uint16 or float32.

    Args:
        pixels: as decoded.
        say: told of what changes.

    Raises:
        ValueError: they are of another type; a clause.
    """
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.dtype not in (np.uint8, np.uint16, np.float32):
        raise ValueError(f"has pixels of type {pixels.dtype}; convert it to 8 or 16 bits")
    if pixels.dtype == np.uint16:
        say("has 16 bits per channel; they are scaled to the full range")
    return pixels


def fit_channels(pixels: np.ndarray, channels: int, say: Callable[[str], None]) -> np.ndarray | None:
    """``(H, W, C)`` with the wanted number of channels, as :func:`read_image` says; None where that cannot be.

    Args:
        pixels: uint8, uint16 or float32.
        channels: wanted.
        say: told of what changes.
    """
    found = pixels.shape[2]
    if found in (2, 4) and found != channels:
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
        return np.ascontiguousarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[:, :, None])
    return None


def read_binary_mask(path: Path, region: Region | None = None) -> np.ndarray:
    """Decode a mask of one class: above half of its range is foreground.

    Lossy files smear the two values, so no exact value is compared; a mask whose values are just 0 and 1 is taken as
    it is, an alpha channel is ignored, and the largest of the colours counts.

    Args:
        path: the file.
        region: the part that is wanted, cut by the range of the whole; None for all.

    Returns:
        ``(H, W)`` uint8 of 0 and 1.
    """
    tiff = None if region is None else open_tiff(path)
    if region is not None and tiff is None:
        return crop(read_binary_mask(path), region)
    pixels = _mask_pixels(path, region)
    return binarise(pixels, int(pixels.max(initial=0)) if tiff is None else _largest(path, tiff))


def binarise(pixels: np.ndarray, largest: int) -> np.ndarray:
    """Values of a mask of one class as 0 and 1, as :func:`read_binary_mask` says; ``largest`` is that of the whole."""
    if largest <= 1:
        return (pixels > 0).astype(np.uint8)
    full = 65535 if pixels.dtype == np.uint16 and largest > 255 else 255
    return (pixels > full // 2).astype(np.uint8)


def read_label_map(path: Path, values: Mapping[int, int], region: Region | None = None) -> np.ndarray:
    """Decode a mask of several classes.

    Args:
        path: a lossless file.
        values: class of every pixel value.
        region: the part that is wanted; None for all.

    Returns:
        ``(H, W)`` uint8 of classes.

    Raises:
        DataError: a lossy format, or a value that stands for no class.
    """
    _refuse_jpeg(path, "a label map")
    try:
        return number_classes(_mask_pixels(path, region), values)
    except ValueError as fault:
        raise DataError(f"{path} {fault}.", str(path)) from fault


def number_classes(pixels: np.ndarray, values: Mapping[int, int]) -> np.ndarray:
    """Values of a mask of several classes as uint8 of classes.

    Args:
        pixels: ``(H, W)`` whole numbers.
        values: class of every value.

    Raises:
        ValueError: a value stands for no class; a clause.
    """
    unknown = sorted(set(np.unique(pixels).tolist()) - set(values))
    if unknown:
        raise ValueError(f"has the pixel values {unknown[:5]}, which stand for no class of {sorted(values)}")
    table = np.zeros(int(max(values)) + 1, dtype=np.uint8)
    table[list(values)] = list(values.values())
    return np.asarray(table[pixels])


def read_grey(path: Path) -> np.ndarray:
    """``(H, W)`` values of a mask as they are stored: an alpha channel is ignored, the largest of the colours counts.

    Raises:
        DataError: a lossy format, or the file cannot be decoded.
    """
    _refuse_jpeg(path, "a label map")
    return _mask_pixels(path)


def read_instances(path: Path) -> np.ndarray:
    """Decode a map of numbered objects; 0 is where there is none.

    Args:
        path: a lossless file of 8 or 16 bits; an alpha channel is ignored, a palette counts by its indices.

    Returns:
        ``(H, W)`` int32.

    Raises:
        DataError: a lossy format, colours, or fractions.
    """
    _refuse_jpeg(path, "an instance map")
    pixels = _label_channels(path)
    if not np.issubdtype(pixels.dtype, np.integer):
        raise DataError(f"{path} is an instance map of type {pixels.dtype}; store it with 8 or 16 bits.", str(path))
    if (pixels != pixels[:, :, :1]).any():
        raise DataError(f"{path} is coloured, but an instance map holds one number per pixel.", str(path))
    return np.asarray(pixels[:, :, 0], dtype=np.int32)


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Write ``(H, W)`` or ``(H, W, C)`` uint8 or uint16 as PNG, or as TIFF where the path says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    squeezed = pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    if path.suffix == ".tif":
        tifffile.imwrite(path, squeezed, photometric="minisblack", planarconfig="contig")
    else:
        Image.fromarray(squeezed).save(path)


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


def _decode(path: Path, region: Region | None = None) -> np.ndarray:
    """``(H, W, C)`` of all or a region, RGB order, with the decoder that reads the format right and notices damage.

    OpenCV returns half a picture for a truncated JPEG and one channel for a TIFF with a wrong photometric tag; Pillow
    cuts 16-bit colour PNGs to 8 bits.
    """
    tiff = None if region is None else open_tiff(path)
    if tiff is not None and region is not None:
        return tiff.read(region)
    _refuse_endless(path)
    suffix = path.suffix.lower()
    try:
        if suffix in TIFF_SUFFIXES:
            pixels = tifffile.imread(path)
        elif suffix == ".png":
            pixels = _decode_png(path)
        else:
            with Image.open(path) as image:
                pixels = np.asarray(image)
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.", str(path)) from error
    except Exception as error:
        raise DataError(f"{path} cannot be decoded: {str(error) or type(error).__name__}.", str(path)) from error
    try:
        pixels = with_channels(pixels)
    except ValueError as fault:
        raise DataError(f"{path} {fault}.", str(path)) from fault
    return pixels if region is None else crop(pixels, region)


def with_channels(pixels: np.ndarray) -> np.ndarray:
    """``(H, W)``, ``(H, W, C)``, or ``(C, H, W)`` of up to four channels as planar TIFF files are, -> ``(H, W, C)``.

    Raises:
        ValueError: it is none of these, or empty; a clause.
    """
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim == 3 and pixels.shape[0] <= 4 < pixels.shape[2]:
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise ValueError(f"is not a two-dimensional image; its shape is {pixels.shape}")
    return pixels


def crop(pixels: np.ndarray, region: Region) -> np.ndarray:
    """A copy of a part of ``(H, W)`` or ``(H, W, C)``, so that the whole may be forgotten."""
    return pixels[region.top : region.top + region.height, region.left : region.left + region.width].copy()


def _decode_png(path: Path) -> np.ndarray:
    data = path.read_bytes()
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if _has_whole_chunks(data) else None
    if pixels is None:
        raise ValueError("the file is truncated or damaged")
    if pixels.ndim == 3:
        code = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}[pixels.shape[2]]
        pixels = cv2.cvtColor(pixels, code)
    return pixels


def _has_whole_chunks(data: bytes) -> bool:
    """Whether every chunk of a PNG file ends within it: OpenCV makes room for as many bytes as a chunk says it has.

    What is not a PNG file, whatever its name, has none.
    """
    place = len(PNG_SIGNATURE)
    while data.startswith(PNG_SIGNATURE) and place + 8 <= len(data) and data[place + 4 : place + 8] != b"IEND":
        place += 12 + int.from_bytes(data[place : place + 4])
        if place > len(data):
            return False
    return True


def _refuse_endless(path: Path) -> None:
    """Pipes, sockets and devices are not opened: whoever reads one may wait or read for ever."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is no regular file, so it is not read.", str(path))


def _refuse_jpeg(path: Path, what: str) -> None:
    if path.suffix.lower() in (".jpg", ".jpeg"):
        raise DataError(f"{path} is {what} stored as JPEG, which changes its values; store it as PNG.", str(path))


def _mask_pixels(path: Path, region: Region | None = None) -> np.ndarray:
    """``(H, W)`` values of a mask, or of a region of it."""
    return largest_of_channels(_label_channels(path, region))


def largest_of_channels(pixels: np.ndarray) -> np.ndarray:
    """``(H, W, C)`` -> ``(H, W)``."""
    channels = np.moveaxis(pixels, 2, 0)
    return reduce(np.maximum, channels[1:], channels[0])  # .max(axis=2) takes 25 times as long, and as long as all else


def _label_channels(path: Path, region: Region | None = None) -> np.ndarray:
    """``(H, W, C)`` values of a file of labels, without an alpha channel; a palette counts by its indices."""
    _refuse_endless(path)
    if path.suffix.lower() == ".png":
        try:
            with Image.open(path) as image:
                if image.mode == "P":
                    indices = np.asarray(image)[:, :, None]
                    return indices if region is None else crop(indices, region)
        except Exception as error:
            raise DataError(f"{path} cannot be decoded: {error}.", str(path)) from error
    return without_alpha(_decode(path, region), partial(_say, path))


def without_alpha(pixels: np.ndarray, say: Callable[[str], None]) -> np.ndarray:
    """``(H, W, C)`` values of labels without an alpha channel, truth values as 0 and 1."""
    colours = pixels.shape[2]
    if colours in (2, 4):
        say("has an alpha channel, which is ignored")
        colours -= 1
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
    return pixels[:, :, :colours]


@lru_cache(maxsize=4096)
def _largest(path: Path, tiff: Tiff) -> int:
    """The largest value of a mask, found a few rows at a time: a region alone does not tell 1 from the noise of 0."""
    height, width = tiff.size
    tops = range(0, height, 256)
    return max(int(_mask_pixels(path, Region(top, 0, min(256, height - top), width)).max()) for top in tops)


def _say(path: Path, what: str) -> None:
    if (path.parent, what) not in _said:
        _said.add((path.parent, what))
        logger.warning("%s %s (reported once for its folder).", path, what)
