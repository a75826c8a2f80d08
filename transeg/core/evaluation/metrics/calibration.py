"""Expected calibration error (Guo et al., arXiv:1706.04599): how far confidence is from being right."""

from __future__ import annotations

import math

import numpy as np

BINS = 15


def calibration_bins(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Sort pixels into bins of equal width by their confidence.

    Args:
        confidence: ``(P,)`` in [0, 1].
        right: ``(P,)`` bool, what a confidence of one says to be true.

    Returns:
        ``(BINS, 3)`` number of pixels, sum of their confidence, number of right ones; bins of several images add up.
    """
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    weights = (None, confidence, right)
    return np.stack([np.bincount(place, weight, BINS).astype(np.float64) for weight in weights], 1)


def calibration_error(bins: np.ndarray) -> float:
    """Mean absolute difference between confidence and accuracy, bins weighted by their pixels; NaN without pixels."""
    count, confidence, right = bins.T
    return float(np.abs(confidence - right).sum() / count.sum()) if count.any() else math.nan
