"""Whole slides as scanners write them: the one step by which datasets and predictions read them.

tiffslide finds the levels of a pyramid, the size of its pixels, and the tiles that a region takes. Nothing else of a
file is looked at: the pictures of a slide's label and of its whole glass, which may show a patient's name, are never
decoded.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from transeg.core.data.coded_size import CODED, ENOUGH, check_coded
from transeg.core.data.decoded_image import UnreadError
from transeg.core.data.listing import stem_of
from transeg.core.errors import DataError
from transeg.core.interfaces import Region
from transeg.core.optional_packages import require

if TYPE_CHECKING:
    from scipy.sparse import csr_array
    from tiffslide import TiffSlide

SCANNED = (".svs", ".ndpi")
"""Endings of files that are nothing but slides."""
ENDINGS = (*SCANNED, ".tif", ".tiff")
CHANNELS = 3
LONGEST = 2**19
"""Pixels of a side, more than the glass has at the highest magnification."""
LARGEST_TILE = 2**26
"""Bytes of a decoded tile or strip."""
FINEST, COARSEST = 0.02, 20.0
"""Micrometres a pixel; what says less or more, as files for printers do, says nothing."""
ALIKE = 0.01
"""Share by which a level may be coarser than what is wanted, as scanners' numbers are no round ones."""
MOST_ENLARGED = 4.0
BLOCK = 2**24
"""Pixels of a level that are decoded at a time, at most, for what is resampled."""

Scale = tuple[float, float]
"""What height and width are multiplied by."""


def is_scanned(path: Path) -> bool:
    """Whether a file is called as scanners of slides call theirs."""
    return path.suffix.lower() in SCANNED


def slide_stem(path: Path) -> str:
    """A file's name without its ending, ``.ome.tif`` being one."""
    return without_ome(stem_of(path.name))


def without_ome(stem: str) -> str:
    """A stem without what is left of ``.ome.tif``."""
    return stem[:-4] if stem.lower().endswith(".ome") else stem


@dataclass(frozen=True)
class SlideFile:
    """A slide, of which the pyramid is known and nothing is decoded yet.

    Attributes:
        path: the file.
        levels: height and width of each, the finest first.
        pixel_size: height and width of a pixel of the finest in micrometres; None where the file says none.
        state: bytes of the file, and when it was changed, by which another of its name is told.
    """

    path: Path
    levels: tuple[tuple[int, int], ...]
    pixel_size: tuple[float, float] | None
    state: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width at the finest level."""
        return self.levels[0]

    def scale_to(self, mpp: float | None, advice: str) -> Scale:
        """What the finest level is multiplied by so that a pixel has so many micrometres; None for as it is.

        Args:
            mpp: micrometres a pixel.
            advice: what to do where the file does not say how large its pixels are.

        Raises:
            DataError: the file does not say how large its pixels are, or would have to be enlarged too much.
        """
        if mpp is None:
            return 1.0, 1.0
        if self.pixel_size is None:
            raise DataError(
                f"{self.path} does not say how large its pixels are, so it cannot be read at {mpp:g} micrometres a "
                f"pixel; {advice}.",
                str(self.path),
            )
        scale = self.pixel_size[0] / mpp, self.pixel_size[1] / mpp
        if max(scale) > MOST_ENLARGED:
            raise DataError(
                f"{self.path} is scanned at {self.pixel_size[0]:g} micrometres a pixel, too coarsely to be read at "
                f"{mpp:g}; at most {MOST_ENLARGED:g} times as many pixels a side are made up.",
                str(self.path),
            )
        return scale

    def with_pixel_size(self, pixel_size: tuple[float, float]) -> SlideFile:
        """The slide, of which somebody knows better how large its pixels are."""
        return replace(self, pixel_size=pixel_size)

    def view(self, scale: Scale) -> SlideView:
        """The slide at another size."""
        height, width = (max(1, round(side * factor)) for side, factor in zip(self.size, scale, strict=True))
        return SlideView(self, (height, width))

    def overview(self, longest: int) -> SlideView:
        """The slide so small that no side is longer than that."""
        factor = min(1.0, longest / max(self.size))
        return self.view((factor, factor))

    def read_level(self, level: int, region: Region) -> np.ndarray:
        """``(height, width, 3)`` uint8 of a region within a level.

        Raises:
            DataError: the file is damaged there.
        """
        try:
            reader = _reader(self.path, *self.state, os.getpid())
        except Exception as error:
            raise DataError(f"{self.path} cannot be opened any more.", str(self.path)) from error
        return reader.read(level, region)


@dataclass(frozen=True)
class SlideView:
    """A slide at one size, read from the nearest level that is finer, or else from the finest.

    Pixels are the means of the area that they cover, and interpolated linearly where the slide is enlarged; parts that
    meet are those of the whole.

    Attributes:
        slide: of which it is a view.
        size: height and width.
    """

    slide: SlideFile
    size: tuple[int, int]

    @cached_property
    def level(self) -> int:
        """The one that is read."""
        wanted = max(self.size[0] * (1 - ALIKE), 1), max(self.size[1] * (1 - ALIKE), 1)
        finer = [n for n, size in enumerate(self.slide.levels) if size[0] >= wanted[0] and size[1] >= wanted[1]]
        return max(finer, default=0)

    def read_all(self) -> np.ndarray:
        """``(H, W, 3)`` uint8, of a view that is small.

        Raises:
            DataError: as for :meth:`read`.
        """
        return self.read(Region(0, 0, *self.size))

    def read(self, region: Region) -> np.ndarray:
        """``(height, width, 3)`` uint8 of a region within.

        Raises:
            DataError: the file is damaged there.
        """
        given = self.slide.levels[self.level]
        if given == self.size:
            return self.slide.read_level(self.level, region)
        step = _block_side(self.size, given)
        result = np.empty((region.height, region.width, CHANNELS), np.uint8)
        for top in range(0, region.height, step):
            for left in range(0, region.width, step):
                height, width = min(step, region.height - top), min(step, region.width - left)
                part = Region(region.top + top, region.left + left, height, width)
                result[top : top + height, left : left + width] = self._resampled(part, given)
        return result

    def _resampled(self, part: Region, given: tuple[int, int]) -> np.ndarray:
        top, down = _weights(part.top, part.height, self.size[0], given[0])
        left, across = _weights(part.left, part.width, self.size[1], given[1])
        pixels = self.slide.read_level(self.level, Region(top, left, down.shape[1], across.shape[1]))
        rows = down @ pixels.reshape(len(pixels), -1).astype(np.float32)
        turned = rows.reshape(part.height, -1, CHANNELS).transpose(1, 0, 2).reshape(across.shape[1], -1)
        columns = (across @ turned).reshape(part.width, part.height, CHANNELS).transpose(1, 0, 2)
        return (columns + 0.5).astype(np.uint8)


def nearest_places(start: int, count: int, size: int, given: int) -> np.ndarray:
    """The rows or columns of a picture of ``given`` that are nearest to those from ``start`` on of one of ``size``."""
    return np.minimum(((np.arange(start, start + count) + 0.5) * given / size).astype(np.int64), given - 1)


def cut_squares(size: tuple[int, int], side: int) -> Iterator[Region]:
    """Squares side by side, row by row; the last of a row ends with it, and what is smaller is taken whole."""
    tops, lefts = (_starts(length, side) for length in size)
    for top in tops:
        for left in lefts:
            yield Region(top, left, min(side, size[0]), min(side, size[1]))


def open_slide(path: Path, what: str) -> SlideFile:
    """What a slide's file says, read once for as long as the file is the same.

    Args:
        path: the file.
        what: needs it, for the sentence where tiffslide is missing.

    Raises:
        UsageError: tiffslide is not installed.
        DataError: it is no slide that can be read.
    """
    require("tiffslide", "slides", what)
    if not path.is_file():  # whoever opens a pipe may wait for ever
        raise DataError(f"{path} is no regular file, so it is not read.", str(path))
    state = path.stat()
    return _described(path, state.st_size, state.st_mtime_ns)


def holds_pyramid(path: Path, what: str) -> bool:
    """Whether a file is a slide of several levels; see :func:`open_slide`."""
    try:
        return len(open_slide(path, what).levels) > 1
    except DataError:
        return False


class _Reader:
    """A slide's open file, for one process: those that are forked would move its place in the file under each other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file = path.open("rb")
        with _quiet():
            self.slide = _tiffslide(self._file)
            self.properties = self.slide.properties
            self.series = self.slide.ts_tifffile.series[self.properties["tiffslide.series-index"]]

    def read(self, level: int, region: Region) -> np.ndarray:
        try:
            with self._lock, _quiet():
                self._check_coded(self.series.levels[level].pages[0].keyframe, region)
                factor = self.slide.level_downsamples[level]
                corner = _base_of(region.left, factor), _base_of(region.top, factor)
                size = region.width, region.height
                pixels = self.slide.read_region(corner, level, size, as_array=True, padding=False)
            pixels = np.ascontiguousarray(pixels[:, :, :CHANNELS])
            if pixels.shape != (region.height, region.width, CHANNELS):
                raise ValueError("what is decoded has another size")
        except Exception as error:  # its text may be the slide's, and name a patient
            place = f"row {region.top}, column {region.left} of level {level}"
            raise DataError(f"{self._path} is cut off or damaged at {place}.", str(self._path)) from error
        return pixels

    def _check_coded(self, page: Any, region: Region) -> None:
        """Whether the tiles that a region touches are as large as they should be.

        Raises:
            ValueError: one says that it is larger.
        """
        if page.compression not in CODED:
            return
        tall, wide = _tile_of(page)
        down, across = (-(-side // step) for side, step in ((page.imagelength, tall), (page.imagewidth, wide)))
        for plane in range(len(page.dataoffsets) // (down * across)):
            for row in range(region.top // tall, (region.top + region.height - 1) // tall + 1):
                for column in range(region.left // wide, (region.left + region.width - 1) // wide + 1):
                    index = (plane * down + row) * across + column
                    self._file.seek(page.dataoffsets[index])
                    check_coded(self._file.read(min(ENOUGH, page.databytecounts[index])), (tall, wide))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what libraries say of a file: how much of a format they know is no news, and tags may name a patient."""
    logger = logging.getLogger("tifffile")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _tiffslide(file: BinaryIO) -> TiffSlide:
    """A file that is read alone: what it says of other files on this machine is not believed."""
    from tiffslide import TiffSlide

    return TiffSlide(file, tifffile_options={"_multifile": False})


@lru_cache(maxsize=16)
def _reader(path: Path, _size: int, _modified: int, _process: int) -> _Reader:
    return _Reader(path)


@lru_cache(maxsize=1024)
def _described(path: Path, size: int, modified: int) -> SlideFile:
    try:
        reader = _reader(path, size, modified, os.getpid())
        with _quiet():
            levels, pixel_size = _levels(reader, size), _pixel_size(reader.properties)
    except UnreadError as error:
        raise DataError(f"{path} {error}.", str(path)) from error
    except Exception as error:  # its text may be the slide's, and name a patient
        raise DataError(
            f"{path} is no slide that tiffslide reads, or is cut off or damaged; open it in QuPath and export it as "
            "OME-TIFF.",
            str(path),
        ) from error
    return SlideFile(path, levels, pixel_size, (size, modified))


def _levels(reader: _Reader, whole: int) -> tuple[tuple[int, int], ...]:
    """Height and width of the levels that show the whole of the finest, each smaller than the one before.

    Args:
        reader: of the file.
        whole: bytes that it has.

    Raises:
        UnreadError: it is not read.
    """
    series = reader.series
    axes, shape = series.axes, series.shape
    channels = shape["YXS".index("S")] if axes == "YXS" else shape[0] if axes == "CYX" else 1
    if axes not in ("YXS", "CYX") or channels not in (3, 4) or series.dtype != np.uint8:
        raise UnreadError(f"has the axes {axes} of type {series.dtype}; slides are read in RGB of 8 bits")
    sizes = [(height, width) for width, height in reader.slide.level_dimensions]
    first = sizes[0]
    if max(first) > LONGEST or min(first) < 1:
        raise UnreadError(f"claims to have {first[1]}x{first[0]} pixels; sides up to {LONGEST} are read")
    levels = [first]
    _check_tiles(series.levels[0], whole)
    for number, size in enumerate(sizes[1:], start=1):
        factors = first[0] / size[0], first[1] / size[1]
        off = max(factors) / min(factors) - 1
        if size[0] >= levels[-1][0] or off > 4 / min(size):  # whatever follows is no copy of the slide
            break
        _check_tiles(series.levels[number], whole)
        levels.append(size)
    return tuple(levels)


def _tile_of(page: Any) -> tuple[int, int]:
    """Height and width of the tiles or strips of a level."""
    return (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)


def _check_tiles(level: Any, whole: int) -> None:
    """Whether the tiles of a level are of a size to be decoded, and within the bytes of the file.

    Raises:
        UnreadError: they are not.
    """
    page = level.pages[0].keyframe
    shape = _tile_of(page)
    if math.prod(shape) * page.samplesperpixel > LARGEST_TILE:
        raise UnreadError(
            f"has tiles of {shape[1]}x{shape[0]} pixels, too large to be read in parts; save it with tiles of 256 to "
            "1024 pixels, for instance with QuPath or vips"
        )
    ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False))
    if len(page.dataoffsets) < math.prod(page.chunked) or max(ends, default=0) > whole:
        raise UnreadError("is cut off: tiles are missing")


def _pixel_size(properties: dict[str, Any]) -> tuple[float, float] | None:
    """What a file says, in micrometres, height first; None where that can be no slide's."""
    try:
        size = float(properties["tiffslide.mpp-y"]), float(properties["tiffslide.mpp-x"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return size if all(FINEST <= side <= COARSEST for side in size) else None


def _starts(length: int, side: int) -> list[int]:
    last = max(0, length - side)
    return [*range(0, last, side), last]


def _base_of(place: int, factor: float) -> int:
    """A place at the finest level that tiffslide, which divides and rounds down, takes for that one of a level."""
    base = int(place * factor)
    return base if int(base / factor) == place else base + 1


def _block_side(size: tuple[int, int], given: tuple[int, int]) -> int:
    """Side of squares of which each takes no more than :data:`BLOCK` pixels of a level."""
    factor = max(given[0] / size[0], given[1] / size[1])
    return max(1, min(1024, int(math.sqrt(BLOCK) / factor) - 2))


def _weights(start: int, count: int, size: int, given: int) -> tuple[int, csr_array]:
    """How ``count`` pixels from ``start`` on of a side of ``size`` are made of the pixels of one of ``given``.

    Returns:
        The first of these, and ``(count, n)`` float32 of which each row adds up to one.
    """
    from scipy.sparse import csr_array  # predicting other images goes without

    factor = given / size
    places = np.arange(start, start + count)
    if factor >= 1:
        begin, end = places * factor, np.minimum((places + 1) * factor, given)
        first = np.floor(begin).astype(np.int64)
        reach = int(np.ceil(factor)) + 1
        index = first[:, None] + np.arange(reach)
        share = np.minimum(index + 1, end[:, None]) - np.maximum(index, begin[:, None])
        share = np.maximum(share, 0)
    else:
        centre = (places + 0.5) * factor - 0.5
        first = np.floor(centre).astype(np.int64)
        index = first[:, None] + np.arange(2)
        share = 1 - np.abs(index - centre[:, None])
    index = np.clip(index, 0, given - 1)
    share = share / share.sum(axis=1, keepdims=True)
    lowest, highest = int(index.min()), int(index[share > 0].max())
    inside = np.minimum(index, highest) - lowest  # what lies beyond weighs nothing
    rows = np.repeat(np.arange(count), index.shape[1])
    shape = (count, highest - lowest + 1)
    return lowest, csr_array((share.ravel().astype(np.float32), (rows, inside.ravel())), shape=shape)
