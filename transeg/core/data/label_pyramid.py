"""Label maps as pyramids in OME-TIFF, which QuPath and other viewers open at any magnification."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import tifffile

from transeg.core.data.tiff_writing import cut_tiles

TILE = 512
LONGEST = 1024
"""Pixels of the longer side of the smallest level, at most."""
BIG = 2**31
"""Pixels from which on a file may need addresses of 64 bits."""

Strips = Callable[[], Iterable[np.ndarray]]
"""The rows ``(n, W)`` uint8 of a label map from top to bottom, as often as they are asked for."""


def write_label_pyramid(
    path: Path, strips: Strips, size: tuple[int, int], pixel_size: tuple[float, float] | None, about: str
) -> None:
    """Write a label map with smaller copies, which take every second, fourth, ... pixel.

    Args:
        path: ends in ``.ome.tif``.
        strips: the map.
        size: its height and width.
        pixel_size: height and width of a pixel in micrometres; None where that is not known.
        about: what the file says of itself.
    """
    number = uuid.uuid5(uuid.NAMESPACE_URL, about)  # by default it is made of this machine's address
    metadata: dict[str, str | float] = {"axes": "YX", "Description": about, "UUID": str(number)}
    if pixel_size is not None:
        down, across = pixel_size
        metadata |= {"PhysicalSizeX": across, "PhysicalSizeXUnit": "µm"}
        metadata |= {"PhysicalSizeY": down, "PhysicalSizeYUnit": "µm"}
    steps = [1]
    while max(size) > LONGEST * steps[-1]:
        steps.append(2 * steps[-1])
    with tifffile.TiffWriter(path, bigtiff=size[0] * size[1] > BIG, ome=True) as file:
        for step in steps:
            height, width = (-(-side // step) for side in size)
            file.write(
                cut_tiles(_every(strips(), step), width, TILE),
                shape=(height, width),
                dtype=np.uint8,
                tile=(TILE, TILE),
                compression="zlib",
                photometric="minisblack",
                subifds=len(steps) - 1 if step == 1 else None,
                subfiletype=0 if step == 1 else 1,
                metadata=metadata if step == 1 else None,
                maxworkers=1,  # several would first gather tiles of 256 MB
            )


def pyramid_says(path: Path) -> str:
    """What an OME-TIFF says of itself, in XML; '' where it is none, or there is no such file."""
    try:
        with path.open("rb") as opened, tifffile.TiffFile(opened, _multifile=False) as file:
            return file.ome_metadata or ""
    except Exception:  # whatever is there is not what is looked for
        return ""


def _every(strips: Iterable[np.ndarray], step: int) -> Iterator[np.ndarray]:
    """Every so many-th row and column, ``(n, w, 1)``."""
    top = 0
    for strip in strips:
        yield strip[-top % step :: step, ::step, None]
        top += len(strip)
