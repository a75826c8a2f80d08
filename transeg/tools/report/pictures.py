"""Pictures in a report: images, what was found in them, what is true, and where the two differ."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion

from transeg.core.interfaces import IGNORE

WIDTH = 560
"""Pixels; wider pictures are scaled down to it, so that a report can be sent by mail."""
SMALL = 240
"""Pixels; pictures that are smaller are kept without loss, as they are shown enlarged."""
FILL = 0.42
"""Opacity of a class over an image."""

CLASS_COLOURS = (
    (255, 196, 0),
    (86, 180, 233),
    (0, 158, 115),
    (204, 121, 167),
    (213, 94, 0),
    (240, 228, 66),
    (0, 114, 178),
)
"""Of the classes but background, again from the start where there are more. These and the next are the colours that
Okabe and Ito chose for all kinds of colour vision (https://jfly.uni-koeln.de/color/), the first one lighter."""

RIGHT, FALSE, MISSED, CONFUSED = "found", "false alarm", "missed", "wrong class"
ERROR_COLOURS = {RIGHT: (86, 180, 233), FALSE: (213, 94, 0), MISSED: (240, 228, 66), CONFUSED: (255, 255, 255)}
"""They differ in lightness, too."""


@dataclass(frozen=True)
class Picture:
    """An image as part of a page.

    Attributes:
        uri: the image itself, as a data URI.
        width: in pixels.
        height: in pixels.
        alt: what is to be seen, for those who do not see it.
    """

    uri: str
    width: int
    height: int
    alt: str

    @property
    def enlarged(self) -> bool:
        """Whether it is so small that it is shown enlarged."""
        return self.width < SMALL


def encode_picture(pixels: np.ndarray, alt: str) -> Picture:
    """``(H, W, 3)`` uint8, scaled down where it is wider than :data:`WIDTH`."""
    image = Image.fromarray(downscale(pixels))
    file = BytesIO()
    image.save(file, "WEBP", quality=82, method=4, lossless=image.width < SMALL)
    uri = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
    return Picture(uri, image.width, image.height, alt)


def downscale(pixels: np.ndarray) -> np.ndarray:
    """``(H, W, 3)`` uint8, each pixel the mean of what it stands for."""
    height, width = pixels.shape[:2]
    if width <= WIDTH:
        return pixels
    size = WIDTH, max(1, round(height * WIDTH / width))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def paint_classes(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Classes but background tinted and outlined on an image, at the size at which it is shown.

    Args:
        pixels: ``(H, W, 3)`` uint8.
        mask: ``(H, W)`` classes; :data:`~transeg.core.interfaces.IGNORE` is left as it is.
    """
    result = downscale(pixels).astype(np.float32)
    height, width = result.shape[:2]
    shown = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST))
    line = 2 if width >= SMALL and height == len(pixels) else 1
    for label in np.unique(shown[(shown > 0) & (shown != IGNORE)]):
        area = shown == label
        colour = np.array(class_colour(int(label)), np.float32)
        result[area] += FILL * (colour - result[area])
        result[area & ~binary_erosion(area, iterations=line)] = colour
    return result.round().astype(np.uint8)


def class_colour(label: int) -> tuple[int, int, int]:
    """Of a class that is not background."""
    return CLASS_COLOURS[(label - 1) % len(CLASS_COLOURS)]


def errors_shown(count: int) -> dict[str, tuple[int, int, int]]:
    """The colours of what :func:`paint_errors` shows with so many classes but background."""
    return {kind: colour for kind, colour in ERROR_COLOURS.items() if kind != CONFUSED or count > 1}


def css_colours(colours: Mapping[str, tuple[int, int, int]]) -> dict[str, str]:
    """Colours as a page names them."""
    return {name: f"rgb({red}, {green}, {blue})" for name, (red, green, blue) in colours.items()}


def paint_errors(pixels: np.ndarray, predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """What was found, falsely found, missed and confused, on the faded image, at the image's own size.

    Args:
        pixels: ``(H, W, 3)`` uint8.
        predicted: ``(H, W)`` classes.
        truth: ``(H, W)`` classes; where it is :data:`~transeg.core.interfaces.IGNORE`, nothing is an error.
    """
    grey = pixels.astype(np.float32).mean(2, keepdims=True) * 0.55 + 30
    result = np.repeat(grey, 3, 2)
    known = truth != IGNORE
    areas = {
        RIGHT: (predicted == truth) & (truth > 0),
        FALSE: (predicted > 0) & (truth == 0),
        MISSED: (predicted == 0) & (truth > 0),
        CONFUSED: (predicted != truth) & (predicted > 0) & (truth > 0),
    }
    for kind, area in areas.items():
        inside = area & known
        result[inside] += 0.8 * (np.array(ERROR_COLOURS[kind], np.float32) - result[inside])
    return result.round().clip(0, 255).astype(np.uint8)
