"""How far a translation has moved what an image shows: its label, which stays where it was, lies beside it then."""

from __future__ import annotations

from contextlib import suppress

import cv2
import numpy as np

from transeg.core.data.images import unit_range

SMOOTHING = 1.0
"""Pixels, the width of the Gaussian before gradients are taken: translations change noise and texture most of all."""
REFINED = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-4)
"""When the refinement ends: after so many steps, or when the correlation gains less."""
NEAR = 1.0
"""Pixels by which the refinement may correct the first estimate, which is of whole ones."""
SMALLEST = 16
"""Pixels that a side must have."""


def label_shift(image: np.ndarray, translated: np.ndarray) -> tuple[float, float] | None:
    """Rows and columns, in pixels, by which the translation of an image is shifted against it.

    Phase correlation of gradient magnitudes, since a translation may turn light into dark (Kuglin and Hines, "The phase
    correlation image alignment method", 1975), refined to fractions of a pixel by their enhanced correlation
    coefficient (Evangelidis and Psarakis, doi:10.1109/TPAMI.2008.113). Blank images are not shifted. One that shows
    something else entirely gives any number up to half a side, so look at many.

    Args:
        image: ``(H, W, C)`` uint8, uint16 or float in [0, 1].
        translated: likewise, of the same height and width, perhaps of other channels and type.

    Returns:
        Positive where the translation shows it further down and to the right, to two places; None of images that are
        too small to tell.
    """
    if min(image.shape[:2]) < SMALLEST:
        return None
    before, after = _edges(image), _edges(translated)
    if not (before.any() and after.any()):
        return 0.0, 0.0
    rows, columns = map(float, _whole_shift(before, after))
    start = np.array([[1, 0, columns], [0, 1, rows]], np.float32)
    with suppress(cv2.error):  # too little in common: the first estimate stays
        refined = np.asarray(cv2.findTransformECC(before, after, start.copy(), cv2.MOTION_TRANSLATION, REFINED)[1])
        moved = refined[:, 2] - start[:, 2]
        if np.abs(moved).max() <= NEAR:  # what has little in common makes it run away
            columns, rows = map(float, refined[:, 2])
    return round(rows, 2), round(columns, 2)  # OpenCV's last digits depend on where an image lies in memory


def _whole_shift(before: np.ndarray, after: np.ndarray) -> list[int]:
    """The peak of the phase correlation, in whole pixels.

    OpenCV's takes a centroid around it, which lies anywhere where images have little in common.
    """
    height, width = before.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    one, other = (np.fft.rfft2(image * window) for image in (before, after))
    cross = other * one.conj()
    correlation = np.fft.irfft2(cross / np.maximum(np.abs(cross), np.finfo(np.float64).tiny), before.shape)
    peak = np.unravel_index(correlation.argmax(), before.shape)
    return [int(place) - side * (place > side // 2) for place, side in zip(peak, before.shape, strict=True)]


def _edges(image: np.ndarray) -> np.ndarray:
    """Gradient magnitudes of the mean over channels: ``(H, W)`` float32."""
    grey = unit_range(image).astype(np.float32).mean(axis=2)
    smooth = cv2.GaussianBlur(grey, (0, 0), SMOOTHING)
    return np.asarray(cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)))
