"""Decodes TIFF files by their tags, and reads parts of them.

Memory holds what is read, not the image: a part is read by the tiles or strips that it touches, and a file whose pixels
lie uncompressed in a row is mapped.
"""

from __future__ import annotations

import math
import stat
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile
from PIL import Image
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC

from transeg.core.data.coded_size import CODED, ENOUGH, check_coded
from transeg.core.data.decoded_image import ORIENTATION, DecodedImage, Range, UnreadError, to_srgb, upright_size
from transeg.core.data.lru_cache import LRUCache
from transeg.core.errors import DataError
from transeg.core.interfaces import Region

SUFFIXES = (".tif", ".tiff")
SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
LARGEST_SEGMENT = 2**26
"""Bytes of a decoded tile or strip; a file of larger ones is no cheaper to read in parts."""
INK_SET, SMALLEST, LARGEST, PROFILE = 332, 340, 341, 34675
"""Tags: the inks of a separated image, SMinSampleValue, SMaxSampleValue, the colour profile."""
WRITES_TRUTH_AS_IT_IS = "tifffile"
"""A program that says of arrays of truth values that 0 is white, but does not turn them over."""
PLAIN = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB, PHOTOMETRIC.MASK)
JPEG = (COMPRESSION.OJPEG, COMPRESSION.JPEG)
KEEPS_YCBCR = (COMPRESSION.NONE, COMPRESSION.LZW, COMPRESSION.ADOBE_DEFLATE, COMPRESSION.PACKBITS, COMPRESSION.DEFLATE)
"""What decoding leaves in YCbCr."""
PIXEL_AXES, SAMPLES, CHANNELS = "YX", "S", "C"

_segments: LRUCache[np.ndarray] = LRUCache(2**26, lambda pixels: pixels.nbytes)


def is_tiff(head: bytes) -> bool:
    """Whether a file that begins so is one."""
    return head.startswith(SIGNATURES)


def decode_tiff(file: BinaryIO, page: int | None = None) -> DecodedImage:
    """A TIFF file's image, or one of its pages.

    Raises:
        UnreadError: it holds several and none is chosen, or colours that are not read.
    """
    with _tiff_file(file) as tiff:
        series, number = _chosen(tiff, page)
        described = series.keyframe
        pixels = _plane(series, number)
        picture = DecodedImage(pixels, _has_alpha(described, pixels.shape[2]), lossy=described.compression in JPEG)
        return _shown(picture, described, file).upright(_orientation(described))


def size_of_tiff(file: BinaryIO, page: int | None = None) -> tuple[int, int]:
    """Height and width of an image once it is upright, or of one of its pages."""
    with _tiff_file(file) as tiff:
        described = _chosen(tiff, page or 0)[0].keyframe
        return upright_size((int(described.imagelength), int(described.imagewidth)), _orientation(described))


def count_tiff_pages(file: BinaryIO) -> int:
    """How many images a file holds; thumbnails and smaller copies do not count, nor do declared channels."""
    with _tiff_file(file) as tiff:
        return sum(_count(series) for series in _images(tiff))


def _tiff_file(file: BinaryIO) -> tifffile.TiffFile:
    """A TIFF file that is read alone: what it says of other files on this machine is not believed."""
    return tifffile.TiffFile(file, _multifile=False)


def _images(tiff: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    first, *others = tiff.series
    return [first, *(series for series in others if not _is_copy(series.keyframe, first.keyframe))]


def _is_copy(page: tifffile.TiffPage, of: tifffile.TiffPage) -> bool:
    """Whether a page is a thumbnail, or a level of a pyramid, or the like."""
    if page.is_reduced or page.is_mask:
        return True
    shape = page.imagelength / page.imagewidth, of.imagelength / of.imagewidth
    return bool(page.imagelength < of.imagelength and math.isclose(*shape, rel_tol=0.05))


def _count(series: tifffile.TiffPageSeries) -> int:
    return math.prod(length for axis, length in zip(series.axes, series.shape, strict=True) if _is_page_axis(axis))


def _is_page_axis(axis: str) -> bool:
    return axis not in PIXEL_AXES + SAMPLES + CHANNELS


def _chosen(tiff: tifffile.TiffFile, page: int | None) -> tuple[tifffile.TiffPageSeries, int]:
    """The series that a page belongs to, and its number there.

    Raises:
        UnreadError: there are several and none is chosen, or there is no such page.
    """
    images = _images(tiff)
    places = [(series, number) for series in images for number in range(_count(series))]
    if page is None and len(places) > 1:
        axes = f" (axes {images[0].axes})" if _count(images[0]) > 1 else ""
        raise UnreadError(
            f"holds {len(places)} pages, a stack or time series{axes}, and pages are not channels; choose one with the "
            "dataset's option page=NUMBER or take them one by one with page=all, where it has it, or save the pages as "
            "files of their own"
        )
    if not 0 <= (page or 0) < len(places):
        raise UnreadError(f"has {len(places)} pages, so there is no page {page}, counted from 0")
    return places[page or 0]


def _plane(series: tifffile.TiffPageSeries, number: int) -> np.ndarray:
    """``(H, W, C)`` of one page, by the axes that the file states."""
    axes, count = series.axes, _count(series)
    _check_coded(series)
    if not set(PIXEL_AXES) <= set(axes) or (SAMPLES in axes and CHANNELS in axes) or 0 in series.shape:
        raise UnreadError(f"is not a two-dimensional image; it has the axes {axes} of {series.shape}")
    if count > 1 and CHANNELS not in axes and len(series.pages) == count:
        page = series.pages[number]
        pixels, axes = page.asarray(), series.keyframe.axes
    else:
        pixels = series.asarray()
        others = [place for place, axis in enumerate(axes) if _is_page_axis(axis)]
        place = np.unravel_index(number, [pixels.shape[place] for place in others]) if others else ()
        index: list[int | slice] = [slice(None)] * pixels.ndim
        for axis, at in zip(others, place, strict=True):
            index[axis] = int(at)
        pixels, axes = pixels[tuple(index)], "".join(axis for axis in axes if not _is_page_axis(axis))
    order = [axes.index(axis) for axis in PIXEL_AXES + CHANNELS + SAMPLES if axis in axes]
    pixels = pixels.transpose(order)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _check_coded(series: tifffile.TiffPageSeries) -> None:
    """Whether tiles and strips that say their size have the one that their pages say: room is made for what they say.

    Raises:
        UnreadError: one says that it is larger.
    """
    file = series.keyframe.parent.filehandle
    for page in series.pages:
        if page is None or page.keyframe.compression not in CODED:
            continue
        described = page.keyframe
        whole = described.imagelength, described.imagewidth
        size = (described.tilelength, described.tilewidth) if described.is_tiled else whole
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
            file.seek(offset)
            try:
                check_coded(file.read(min(ENOUGH, count)), size)
            except ValueError as error:
                raise UnreadError(f"is damaged: {error}") from error


def _has_alpha(page: tifffile.TiffPage, channels: int) -> bool:
    """Whether the last channel is opacity, as the file says; that there are two or four of them says nothing."""
    extra = page.extrasamples
    declared = len(extra) == 1 and extra[0] in (EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA)
    return declared and channels == page.samplesperpixel > 1


def _shown(picture: DecodedImage, page: tifffile.TiffPage, file: BinaryIO) -> DecodedImage:
    """Black as the smaller number, colours as RGB."""
    photometric = page.photometric
    if photometric == PHOTOMETRIC.PALETTE and page.colormap is not None:
        table = np.asarray(page.colormap).T
        return replace(picture, palette=(table if table.max(initial=0) < 256 else table >> 8).astype(np.uint8))
    if photometric == PHOTOMETRIC.SEPARATED:
        return replace(picture, pixels=_from_inks(picture.pixels, page))
    if photometric == PHOTOMETRIC.CIELAB:
        return replace(picture, pixels=_from_mode("LAB", picture.pixels, page))
    if photometric == PHOTOMETRIC.YCBCR:
        if page.compression not in KEEPS_YCBCR:
            return picture
        file.seek(0)
        with Image.open(file) as image:
            image.seek(page.index)
            return replace(picture, pixels=np.asarray(image.convert("RGB")))
    note, range_ = _said_range(page)
    picture = replace(picture, range=range_, notes=() if note is None else (note,))
    if photometric == PHOTOMETRIC.MINISWHITE:
        if picture.pixels.dtype == np.bool_ and page.software.startswith(WRITES_TRUTH_AS_IT_IS):
            return picture
        return replace(picture, pixels=_negative(picture.pixels, int(page.bitspersample)))
    if photometric not in PLAIN:
        name = getattr(photometric, "name", str(photometric))
        raise UnreadError(f"holds colours that are not read (photometric {name}); save it as RGB")
    return picture


def _negative(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Of a file that says that 0 is white."""
    if pixels.dtype == np.bool_:
        return ~pixels
    if not np.issubdtype(pixels.dtype, np.unsignedinteger):
        raise UnreadError(f"says that 0 is white, of values of type {pixels.dtype}; invert it and save that 0 is black")
    return np.asarray(pixels.dtype.type(2**bits - 1) - pixels)


def _said_range(page: tifffile.TiffPage) -> tuple[str | None, Range | None]:
    """Values that mean black and white where they do not fill their type; and a clause where they are not believed.

    Some programs write the least and the largest value of each image into the tags for that: to follow these would be
    to stretch every image in its own way.
    """
    bits, dtype = int(page.bitspersample), np.dtype(page.dtype)
    end = 2**bits - 1 if page.photometric == PHOTOMETRIC.MINISWHITE else None
    smallest, largest = _number(page, SMALLEST) or 0.0, _number(page, LARGEST)
    full = 2.0 ** (8 * dtype.itemsize) - 1 if dtype.kind == "u" else None
    if largest is None and dtype.kind == "u" and bits > 1:
        largest = 2.0**bits - 1
    if largest is None or largest == full:
        return None, None
    if smallest != 0 or largest not in (1, *(2**n - 1 for n in range(2, 33))):
        said = f"from {smallest:g} to {largest:g}"
        return f"says that its samples reach {said}, which is no depth of bits and not used (see range)", None
    return None, (0.0, largest) if end is None else (end - largest, float(end))


def _number(page: tifffile.TiffPage, tag: int) -> float | None:
    found = page.tags.get(tag)
    values = {float(value) for value in np.atleast_1d(found.value)} if found is not None else set()
    return values.pop() if len(values) == 1 else None


def _from_inks(pixels: np.ndarray, page: tifffile.TiffPage) -> np.ndarray:
    inks = _number(page, INK_SET)
    if inks not in (None, 1) or pixels.shape[2] != 4:
        raise UnreadError(f"holds {pixels.shape[2]} inks that are not CMYK; save it as RGB")
    return _from_mode("CMYK", pixels, page)


def _from_mode(mode: str, pixels: np.ndarray, page: tifffile.TiffPage) -> np.ndarray:
    """RGB out of a mode of Pillow."""
    if pixels.dtype != np.uint8 or pixels.shape[2] != len(Image.new(mode, (1, 1)).getbands()):
        raise UnreadError(f"is in {mode} with {pixels.shape[2]} channels of type {pixels.dtype}; save it as RGB")
    height, width = pixels.shape[:2]
    image = Image.frombytes(mode, (width, height), np.ascontiguousarray(pixels).tobytes(), "raw", mode)
    profile = page.tags.get(PROFILE) if mode == "CMYK" else None
    return to_srgb(image, None if profile is None else bytes(profile.value))


def _orientation(page: tifffile.TiffPage) -> int:
    said = _number(page, ORIENTATION)
    return int(said) if said is not None and 1 <= said <= 8 else 1


class Tiff:
    """The image of a TIFF file that is as the file says without being turned or converted.

    Args:
        path: the file; it is open only while something is read.

    Raises:
        ValueError: the file cannot be read in parts.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as opened, _tiff_file(opened) as file:
            series, _ = _chosen(file, None)
            page = series.levels[0].pages[0].keyframe
            self.size = (int(page.imagelength), int(page.imagewidth))
            self.samples = int(page.samplesperpixel)
            self.dtype = np.dtype(page.dtype)
            self.alpha = _has_alpha(page, self.samples)
            self.lossy = page.compression in JPEG
            _, self.range = _said_range(page)
            self._path = path
            self._decode = page.decode  # reads tags, so that it is made while the file is open
            self._planes = self.samples if page.planarconfig == 2 else 1
            self._chunk = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, self.size[1])
            self._mapped = np.dtype(file.byteorder + page.dtype.char) if page.is_memmappable else None
            self._offsets, self._counts = page.dataoffsets, page.databytecounts
            self._coded = (self._chunk if page.is_tiled else self.size) if page.compression in CODED else None
            self._decoding = {"jpegtables": page.jpegtables} if page.jpegtables else {}
            bytes_each = self._chunk[0] * self._chunk[1] * self.samples // self._planes * self.dtype.itemsize
            if (
                len(series.levels[0].pages) != 1
                or page.imagedepth != 1
                or _orientation(page) != 1
                or not (page.photometric in PLAIN or _is_coded_colour(page))
                or page.jpegheader is not None
                or page.bitspersample != self.dtype.itemsize * 8
                or (self._mapped is None and bytes_each > LARGEST_SEGMENT)
            ):
                raise ValueError(f"{path} cannot be read in parts")

    def read(self, region: Region) -> np.ndarray:
        """``(height, width, samples)`` pixels of a region within the image.

        Raises:
            DataError: the file is damaged there.
        """
        top, left, height, width = region
        if self._mapped is not None and self._planes == 1:
            shape = (*self.size, self.samples)
            try:
                pixels = np.memmap(self._path, self._mapped, "r", int(self._offsets[0]), shape)
            except (OSError, ValueError) as error:
                raise DataError(f"{self._path} cannot be decoded: {error}.", str(self._path)) from error
            return np.ascontiguousarray(pixels[top : top + height, left : left + width], dtype=self.dtype)
        result = np.zeros((height, width, self.samples), self.dtype)
        tall, wide = self._chunk
        for row in range(top // tall, (top + height - 1) // tall + 1):
            for column in range(left // wide, (left + width - 1) // wide + 1):
                for plane in range(self._planes):
                    channels = slice(None) if self._planes == 1 else slice(plane, plane + 1)
                    _copy(self._segment(plane, row, column), row * tall - top, column * wide - left, result, channels)
        return result

    def _segment(self, plane: int, row: int, column: int) -> np.ndarray:
        """A decoded tile or strip, ``(h, w, samples)``."""
        rows, columns = (-(-side // step) for side, step in zip(self.size, self._chunk, strict=True))
        index = (plane * rows + row) * columns + column
        return _segments.get((self, index), lambda: self._decoded(index, row, column))

    def _decoded(self, index: int, row: int, column: int) -> np.ndarray:
        count = self._counts[index]
        try:
            with self._path.open("rb") as file:
                file.seek(self._offsets[index])
                data = file.read(count)
            if len(data) < count:
                raise ValueError("the file is truncated")
            if self._coded is not None:
                check_coded(data[:ENOUGH], self._coded)
            pixels = self._decode(data, index, **self._decoding)[0]
        except Exception as error:
            place = f"row {row * self._chunk[0]}, column {column * self._chunk[1]}"
            raise DataError(f"{self._path} cannot be decoded at {place}: {error}.", str(self._path)) from error
        # a tile without data is what sparse files leave out
        return pixels[0] if pixels is not None else np.zeros((*self._chunk, self.samples // self._planes), self.dtype)


def _is_coded_colour(page: tifffile.TiffPage) -> bool:
    """Whether decoding alone makes RGB of it."""
    return bool(page.photometric == PHOTOMETRIC.YCBCR and page.compression not in KEEPS_YCBCR)


def open_tiff(path: Path) -> Tiff | None:
    """A file that can be read in parts; None for any other."""
    if path.suffix.lower() not in SUFFIXES:
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return _opened(path, status.st_mtime_ns, status.st_size)


def said_range(path: Path) -> Range | None:
    """Values that mean black and white, where a file says so."""
    tiff = open_tiff(path)
    if tiff is not None or path.suffix.lower() not in SUFFIXES:
        return None if tiff is None else tiff.range
    try:
        with path.open("rb") as file, _tiff_file(file) as opened:
            return _said_range(_images(opened)[0].keyframe)[1]
    except Exception:  # whoever decodes it says what is wrong
        return None


def holds_floats(path: Path) -> bool:
    """Whether a file says that its pixels are floats."""
    tiff = open_tiff(path)
    if tiff is not None or path.suffix.lower() not in SUFFIXES:
        return tiff is not None and tiff.dtype.kind == "f"
    try:
        with path.open("rb") as file, _tiff_file(file) as opened:
            return np.dtype(opened.series[0].dtype).kind == "f"
    except Exception:  # whoever decodes it says what is wrong
        return False


@lru_cache(maxsize=64)
def _opened(path: Path, _changed: int, _bytes: int) -> Tiff | None:
    try:
        return Tiff(path)
    except Exception:  # whoever decodes the whole file says what is wrong with it
        return None


def _copy(segment: np.ndarray, top: int, left: int, result: np.ndarray, channels: slice) -> None:
    """Lay a segment into the result, whose corner it is ``top`` and ``left`` away from."""
    rows, columns = (
        (max(0, start), min(whole, start + side))
        for start, side, whole in zip((top, left), segment.shape[:2], result.shape[:2], strict=True)
    )
    result[slice(*rows), slice(*columns), channels] = segment[
        rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left
    ]
