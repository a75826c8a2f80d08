"""Reads parts of TIFF files, and writes TIFF files from top to bottom: memory holds what is read, not the image.

A file is read by the tiles or strips that a part touches; one whose pixels lie uncompressed in a row is mapped.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import tifffile

from transeg.core.data.lru_cache import LRUCache
from transeg.core.errors import DataError
from transeg.core.interfaces import Region

SUFFIXES = (".tif", ".tiff")
LARGEST_SEGMENT = 2**26
"""Bytes of a decoded tile or strip; a file of larger ones is no cheaper to read in parts."""
TILE = 256
"""Height and width of the tiles that are written."""

_segments: LRUCache[np.ndarray] = LRUCache(2**26, lambda pixels: pixels.nbytes)


class Tiff:
    """The first image of a TIFF file.

    Args:
        path: the file; it is open only while something is read.

    Raises:
        ValueError: the file cannot be read in parts.
    """

    def __init__(self, path: Path) -> None:
        with tifffile.TiffFile(path) as file:
            pages = file.series[0].levels[0].pages
            page = pages[0].keyframe
            self.size = (int(page.imagelength), int(page.imagewidth))
            self.samples = int(page.samplesperpixel)
            self.dtype = np.dtype(page.dtype)
            self._path = path
            self._decode = page.decode  # reads tags, so that it is made while the file is open
            self._planes = self.samples if page.planarconfig == 2 else 1
            self._chunk = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, self.size[1])
            self._mapped = np.dtype(file.byteorder + page.dtype.char) if page.is_memmappable else None
            self._offsets, self._counts = page.dataoffsets, page.databytecounts
            self._decoding = {"jpegtables": page.jpegtables} if page.jpegtables else {}
            bytes_each = self._chunk[0] * self._chunk[1] * self.samples // self._planes * self.dtype.itemsize
            if (
                len(pages) != 1
                or page.imagedepth != 1
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
            pixels = self._decode(data, index, **self._decoding)[0]
        except Exception as error:
            place = f"row {row * self._chunk[0]}, column {column * self._chunk[1]}"
            raise DataError(f"{self._path} cannot be decoded at {place}: {error}.", str(self._path)) from error
        # a tile without data is what sparse files leave out
        return pixels[0] if pixels is not None else np.zeros((*self._chunk, self.samples // self._planes), self.dtype)


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


@lru_cache(maxsize=64)
def _opened(path: Path, _changed: int, _bytes: int) -> Tiff | None:
    try:
        return Tiff(path)
    except Exception:  # whoever decodes the whole file says what is wrong with it
        return None


def write_tiff(path: Path, rows: Iterable[np.ndarray], height: int, width: int, channels: int) -> None:
    """Write a tiled, compressed TIFF of 8 bits; where the rows fail to come, no file stays behind.

    Args:
        path: the file.
        rows: ``(n, width, channels)`` uint8 from top to bottom, any number at a time.
        height: of them all.
        width: of the image.
        channels: of the image.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    try:
        tifffile.imwrite(
            unfinished,
            _tiles(rows, width),
            shape=(height, width, channels) if channels > 1 else (height, width),
            dtype=np.uint8,
            tile=(TILE, TILE),
            compression="zlib",
            photometric="rgb" if channels in (3, 4) else "minisblack",
            planarconfig="contig" if channels > 1 else None,
            maxworkers=1,  # several would first gather tiles of 256 MB
            bigtiff=height * width * channels > 2**31,
        )
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    unfinished.replace(path)


def _tiles(rows: Iterable[np.ndarray], width: int) -> Iterator[np.ndarray]:
    right = -width % TILE
    for part in _by_height(rows, TILE):
        padded = np.pad(part, ((0, TILE - len(part)), (0, right), (0, 0)))
        for tile in np.split(padded, padded.shape[1] // TILE, axis=1):
            yield np.ascontiguousarray(tile[:, :, 0] if tile.shape[2] == 1 else tile)


def _by_height(rows: Iterable[np.ndarray], height: int) -> Iterator[np.ndarray]:
    """The same rows in groups of a given size; the last may be smaller."""
    kept: list[np.ndarray] = []
    for part in rows:
        kept.append(part)
        while sum(map(len, kept)) >= height:
            joined = np.concatenate(kept)
            yield joined[:height]
            kept = [joined[height:]]
    if sum(map(len, kept)):
        yield np.concatenate(kept)


def _copy(segment: np.ndarray, top: int, left: int, result: np.ndarray, channels: slice) -> None:
    """Lay a segment into the result, whose corner it is ``top`` and ``left`` away from."""
    rows, columns = (
        (max(0, start), min(whole, start + side))
        for start, side, whole in zip((top, left), segment.shape[:2], result.shape[:2], strict=True)
    )
    result[slice(*rows), slice(*columns), channels] = segment[
        rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left
    ]
