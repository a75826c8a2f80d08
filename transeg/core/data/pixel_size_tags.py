"""How large pixels are, as TIFF files say it: what images say is read, and written beside what is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tifffile
from tifffile import RESUNIT

MICROMETRES = {
    "nm": 1e-3,
    "µm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "inch": 25400.0,
    "m": 1e6,
}
"""In a unit, as OME and ImageJ call it."""
CENTIMETRE, INCH = RESUNIT.CENTIMETER, RESUNIT.INCH
SCREEN = 72
"""Dots an inch that programs write which do not know; ImageJ takes them for nothing, too."""
SMALLEST, LARGEST = 1e-5, 1e7
"""Micrometres of a pixel: a tenth of an atom, and ten metres."""
TURNED = 5
"""The first orientation by which rows become columns."""


def said_pixel_size(path: Path) -> tuple[float, float] | None:
    """Height and width of an image's pixels in micrometres, once it is upright, as a TIFF file says them.

    OME's metadata count first, then ImageJ's, then the resolution.

    Returns:
        None where it does not say, or only that of a screen; for other formats; and for a file that cannot be read, of
        which whoever decodes it says what is wrong.
    """
    try:
        with tifffile.TiffFile(path, _multifile=False) as tiff:
            size = _of_ome(tiff) or _of_resolution(tiff)
            turned = int(tiff.pages[0].tags.valueof("Orientation", 1)) >= TURNED
    except Exception:
        return None
    if size is None or not _can_be_said(size):
        return None
    return size[::-1] if turned else size


def pixel_size_tags(size: tuple[float, float] | None) -> dict[str, Any]:
    """What :func:`tifffile.imwrite` is to be told, so that ImageJ measures in micrometres.

    Args:
        size: height and width in micrometres; None for nothing to tell.
    """
    if size is None or not _can_be_said(size):
        return {}
    height, width = size
    return {"resolution": (1e4 / width, 1e4 / height), "resolutionunit": CENTIMETRE}


def _can_be_said(size: tuple[float, float]) -> bool:
    """Whether a size is one of pixels, and a fraction of two numbers of 32 bits can say it."""
    return all(SMALLEST <= side <= LARGEST for side in size)


def _of_ome(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    """Of the first image that OME's metadata describe."""
    if not tiff.is_ome:
        return None
    described = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]
    pixels = (described[0] if isinstance(described, list) else described)["Pixels"]
    if not {"PhysicalSizeX", "PhysicalSizeY"} <= pixels.keys():
        return None
    height, width = (
        float(pixels[f"PhysicalSize{axis}"]) * MICROMETRES[pixels.get(f"PhysicalSize{axis}Unit", "µm")]
        for axis in ("Y", "X")
    )
    return height, width


def _of_resolution(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    """Of the tags that every TIFF file may have; ImageJ says in its own metadata what they are counted in."""
    tags = tiff.pages[0].tags
    across, down = (tags.valueof(name) for name in ("XResolution", "YResolution"))
    if across is None or down is None:
        return None
    wide, high = across[0] / across[1], down[0] / down[1]
    unit = (tiff.imagej_metadata or {}).get("unit") if tiff.is_imagej else None
    if unit is not None:
        micrometres = MICROMETRES.get(str(unit).replace("\\u00B5", "µ"))
    else:
        unit = tags.valueof("ResolutionUnit", INCH)
        micrometres = {CENTIMETRE: 1e4, INCH: None if wide == high == SCREEN else 25400.0}.get(unit)
    return None if micrometres is None else (micrometres / high, micrometres / wide)
