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
SMALLEST = 16
"""Pixels that a side must have."""


def label_shift(image: np.ndarray, translated: np.ndarray) -> tuple[float, float] | None:
    """Rows and columns, in pixels, by which the translation of an image is shifted against it.

    Phase correlation of gradient magnitudes, since a translation may turn light into dark (Kuglin and Hines, "The phase
    correlation image alignment method", 1975), refined to fractions of a pixel by their enhanced correlation
    coefficient (Evangelidis and Psarakis, doi:10.1109/TPAMI.2008.113). Blank images are not shifted. One that shows
    something else entirely gives any number, so look at many.

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
    height, width = before.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    (columns, rows), _ = cv2.phaseCorrelate(before, after, window)  # drawn to whole pixels, by up to a quarter of one
    start = np.array([[1, 0, columns], [0, 1, rows]], np.float32)
    with suppress(cv2.error):  # too little in common: the first estimate stays
        refined = np.asarray(cv2.findTransformECC(before, after, start.copy(), cv2.MOTION_TRANSLATION, REFINED)[1])
        columns, rows = float(refined[0, 2]), float(refined[1, 2])
    return round(rows, 2), round(columns, 2)  # OpenCV's last digits depend on where an image lies in memory


def _edges(image: np.ndarray) -> np.ndarray:
    """Gradient magnitudes of the mean over channels: ``(H, W)`` float32."""
    grey = unit_range(image).astype(np.float32).mean(axis=2)
    smooth = cv2.GaussianBlur(grey, (0, 0), SMOOTHING)
    return np.asarray(cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)))
