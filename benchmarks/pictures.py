"""Pictures to measure with: as large as files of a camera, each with an object and its mask."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def photograph(random: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth colours with a sensor's noise, so that files are as large as a camera's, and an ellipse somewhere.

    Returns:
        ``(H, W, 3)`` uint8, and where the ellipse is, ``(H, W)`` uint8, 0 or 1.
    """
    colours = cv2.resize(random.uniform(0, 255, (9, 16, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    mask = np.zeros((height, width), np.uint8)
    centre = int(random.uniform(0.3, 0.7) * width), int(random.uniform(0.3, 0.7) * height)
    axes = int(random.uniform(0.1, 0.25) * width), int(random.uniform(0.1, 0.25) * height)
    cv2.ellipse(mask, centre, axes, float(random.uniform(0, 180)), 0, 360, 1, -1)
    colours[mask > 0] += random.uniform(-60, 60, 3)
    return (colours + random.normal(0, 4, colours.shape)).clip(0, 255).astype(np.uint8), mask


def write_photographs(
    folder: Path, count: int, height: int, width: int, *, images: str = ".jpg", masks: str = ".png"
) -> None:
    """Write ``images/`` and ``masks/``, which are black and white.

    Args:
        folder: that gets them.
        count: of the pictures.
        height: of each.
        width: likewise.
        images: ending that says their format.
        masks: likewise.
    """
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(count):
        pixels, mask = photograph(random, height, width)
        for kind, picture, ending in (("images", pixels, images), ("masks", mask * 255, masks)):
            quality = [cv2.IMWRITE_JPEG_QUALITY, 92] if ending == ".jpg" else []
            cv2.imwrite(str(folder / kind / f"{number:03d}{ending}"), picture, quality)
