"""What a picture file holds, once it is decoded: pixels the right way up, and what the file says of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

ORIENTATION = 0x0112
"""The tag of EXIF and TIFF."""
ON_ITS_SIDE = frozenset({5, 6, 7, 8})
"""Orientations that exchange height and width."""

Range = tuple[float, float]
"""Stored intensities that mean black and white."""


class UnreadError(ValueError):
    """What a file holds is known, but not read; the message is a clause that says what to do."""


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """Pixels, and what their file says of them.

    Attributes:
        pixels: ``(H, W, C)`` as stored, but upright, with black as the smaller number, and in RGB where they are
            colours; ``(H, W, 1)`` indices where there is a palette.
        alpha: whether the file says that the last channel is opacity.
        palette: ``(N, 3)`` uint8, or ``(N, 4)`` with opacity.
        lossy: whether JPEG may have changed the values.
        range: values that mean black and white, where these are not the ends of the type.
        notes: clauses on what was left out.
    """

    pixels: np.ndarray
    alpha: bool = False
    palette: np.ndarray | None = None
    lossy: bool = False
    range: Range | None = None
    notes: tuple[str, ...] = ()

    def colours(self) -> DecodedImage:
        """With the colours that the indices stand for."""
        if self.palette is None:
            return self
        pixels = self.palette[self.pixels[:, :, 0]]
        return replace(self, pixels=pixels, alpha=pixels.shape[2] == 4, palette=None)

    def upright(self, orientation: int) -> DecodedImage:
        """Turned as EXIF and TIFF number it: 1 is upright, 6 wants a quarter turn to the right."""
        return replace(self, pixels=_turned(self.pixels, orientation))


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Height and width once an image is upright."""
    return (size[1], size[0]) if orientation in ON_ITS_SIDE else size


def to_srgb(image: Image.Image, profile: bytes | None) -> np.ndarray:
    """``(H, W, 3)`` uint8 of an image in CMYK or CIELAB, by its colour profile where it has one.

    Raises:
        UnreadError: the profile cannot be used.
    """
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile)) if profile else None
        if source is None and image.mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        if source is None:
            return np.asarray(image.convert("RGB"))
        shown = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        raise UnreadError(f"is in {image.mode} with a colour profile that cannot be used; save it as RGB") from error
    return np.asarray(shown)


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    if orientation in ON_ITS_SIDE:
        pixels = pixels.swapaxes(0, 1)
    upside_down, mirrored = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return pixels[:: -1 if upside_down else 1, :: -1 if mirrored else 1]
