"""Whether thin things are found along their whole length: centreline Dice (clDice)."""

from __future__ import annotations

import numpy as np
from skimage.morphology import skeletonize

from transeg.core.interfaces import IGNORE


def centreline_dice(probabilities: np.ndarray, labels: np.ndarray, pixel_size: float | None) -> float | None:  # noqa: ARG001  # of the contract
    """Mean over the classes but background of clDice (arXiv:2003.07311, equation 3).

    It is the harmonic mean of the share of the predicted centreline that lies in the truth, and of the true centreline
    that lies in the prediction; centrelines are skeletons (Zhang and Suen, 1984, by scikit-image).

    Args:
        probabilities: ``(K, H, W)`` float32, background first.
        labels: ``(H, W)``; pixels of IGNORE count nowhere.
        pixel_size: not used.

    Returns:
        A number in [0, 1]; None where neither the truth nor the prediction has a pixel of any class.
    """
    known = labels != IGNORE
    predicted = np.where(known, probabilities.argmax(0), 0)
    truth = np.where(known, labels, 0)
    values = [_of_class(predicted == label, truth == label) for label in range(1, len(probabilities))]
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _of_class(predicted: np.ndarray, truth: np.ndarray) -> float | None:
    if not (predicted.any() or truth.any()):
        return None
    if not (predicted.any() and truth.any()):
        return 0.0
    precision, recall = truth[skeletonize(predicted)].mean(), predicted[skeletonize(truth)].mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0
