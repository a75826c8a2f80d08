"""Writes TIFF files from top to bottom, in the memory of a row of tiles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tifffile

from transeg.core.data.pixel_size_tags import pixel_size_tags

TILE = 256
"""Height and width of tiles."""


def write_tiff(
    path: Path,
    rows: Iterable[np.ndarray],
    height: int,
    width: int,
    channels: int,
    pixel_size: tuple[float, float] | None = None,
) -> None:
    """Write a tiled, compressed TIFF of 8 bits; where the rows fail to come, no file stays behind.

    Args:
        path: the file.
        rows: ``(n, width, channels)`` uint8 from top to bottom, any number at a time.
        height: of them all.
        width: of the image.
        channels: of the image.
        pixel_size: height and width of its pixels in micrometres, where they are known.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    try:
        tifffile.imwrite(
            unfinished,
            cut_tiles(rows, width, TILE),
            shape=(height, width, channels) if channels > 1 else (height, width),
            dtype=np.uint8,
            tile=(TILE, TILE),
            compression="zlib",
            photometric="rgb" if channels in (3, 4) else "minisblack",
            planarconfig="contig" if channels > 1 else None,
            maxworkers=1,  # several would first gather tiles of 256 MB
            bigtiff=height * width * channels > 2**31,
            **pixel_size_tags(pixel_size),
        )
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    unfinished.replace(path)


def cut_tiles(rows: Iterable[np.ndarray], width: int, side: int) -> Iterator[np.ndarray]:
    """Rows ``(n, width, channels)``, any number at a time, as square tiles, filled up with zeros."""
    right = -width % side
    for part in _by_height(rows, side):
        padded = np.pad(part, ((0, side - len(part)), (0, right), (0, 0)))
        for tile in np.split(padded, padded.shape[1] // side, axis=1):
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
