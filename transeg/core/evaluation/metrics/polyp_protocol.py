"""The polyp benchmark's protocol as PraNet's tool measures it (Fan et al., arXiv:2006.11392), on one image.

The published tool reads predictions as 8-bit files, each stretched to its own minimum and maximum. So does this: a
pixel is one of 256 levels, which are the thresholds, too, and all but the weighted F-measure follows from how often
each level occurs inside and outside the truth.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

LEVELS = 256
WHITE = LEVELS - 1
REACH = 3
"""Pixels that the surroundings of an error reach in the weighted F-measure."""
METRICS = ("pranet_mdice", "pranet_miou", "pranet_wfm", "pranet_sm", "pranet_mean_em", "pranet_mae")


class ThresholdCurves(NamedTuple):
    """Dice, IoU and E-measure at each threshold, ``(256,)`` from the lowest to the highest."""

    dice: np.ndarray
    iou: np.ndarray
    e_measure: np.ndarray


def polyp_protocol(
    probability: np.ndarray, truth: np.ndarray, valid: np.ndarray
) -> tuple[dict[str, float], ThresholdCurves | None]:
    """Measure one image.

    Args:
        probability: ``(H, W)`` of the foreground.
        truth: ``(H, W)`` bool.
        valid: ``(H, W)`` bool, the pixels that count.

    Returns:
        :data:`METRICS` by name, and the curves whose means are among them; NaN and None where no pixel counts.
    """
    if not valid.any():
        return dict.fromkeys(METRICS, math.nan), None
    truth = truth & valid
    levels = stretch_levels(probability, valid)
    quadrants = _histograms(levels, truth, valid)
    histogram = quadrants.sum(0)
    curves = threshold_curves(histogram)
    outside, inside = histogram
    gap = inside @ np.arange(WHITE, -1, -1) + outside @ np.arange(LEVELS)
    values = (
        curves.dice.mean(),
        curves.iou.mean(),
        weighted_f(levels / WHITE, truth, valid),
        s_measure(quadrants),
        curves.e_measure.mean(),
        gap / WHITE / histogram.sum(),
    )
    return dict(zip(METRICS, map(float, values), strict=True)), curves


def stretch_levels(probability: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """``(H, W)`` probabilities -> levels 0 to 255, from the least to the largest that counts; 0 where all are equal."""
    counted = probability[valid]
    low, high = float(counted.min()), float(counted.max())
    unit = np.clip((probability - low) / (high - low), 0, 1) if high > low else np.zeros_like(probability)
    return np.rint(unit * WHITE).astype(np.uint8)


def threshold_curves(histogram: np.ndarray) -> ThresholdCurves:
    """Dice, IoU and E-measure of the levels that reach each threshold.

    Dice and IoU are 0 without a true positive. The E-measure (arXiv:1805.10421) takes four values in a binary image,
    one for each combination of prediction and truth, so that counting those is enough.

    Args:
        histogram: ``(2, 256)`` pixels of each level outside and inside the truth.
    """
    negatives, positives = histogram.sum(1)
    fp, tp = np.cumsum(histogram[:, ::-1], axis=1)[:, ::-1]
    fn, tn = positives - tp, negatives - fp
    count = positives + negatives
    dice = 2 * tp / np.maximum(positives + tp + fp, 1)
    iou = tp / np.maximum(positives + fp, 1)
    if positives == 0:
        aligned = tn.astype(np.float64)
    elif negatives == 0:
        aligned = tp.astype(np.float64)
    else:
        mean_truth, mean_prediction = positives / count, (tp + fp) / count
        aligned = np.zeros(LEVELS)
        for cells, true, predicted in ((tp, 1, 1), (fp, 0, 1), (fn, 1, 0), (tn, 0, 0)):
            a, b = true - mean_truth, predicted - mean_prediction
            aligned += cells * (2 * a * b / (a**2 + b**2) + 1) ** 2 / 4
    return ThresholdCurves(dice, iou, aligned / max(1, count - 1))


def s_measure(quadrants: np.ndarray) -> float:
    """Structure measure (Fan et al., arXiv:1708.00786) with equal weights of objects and regions.

    Args:
        quadrants: ``(4, 2, 256)`` pixels of each level outside and inside the truth, in the four rectangles that meet
            at the truth's centroid.
    """
    outside, inside = quadrants.sum(0)
    share = inside.sum() / quadrants.sum()
    if share in (0, 1):
        mean = (inside + outside) @ np.arange(LEVELS) / WHITE / quadrants.sum()
        return float(mean if share else 1 - mean)
    objects = share * _object_score(inside) + (1 - share) * _object_score(outside[::-1])
    weights = quadrants.sum((1, 2)) / quadrants.sum()
    regions = sum(w * _region_score(quadrant) for w, quadrant in zip(weights, quadrants, strict=True) if w)
    return float(max(0.0, (objects + regions) / 2))


def weighted_f(prediction: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> float:
    """Weighted F-measure with beta 1 (Margolin et al., CVPR 2014, doi:10.1109/CVPR.2014.39).

    Errors inside the truth may be shared with their surroundings, errors outside weigh more the farther away they are.

    Args:
        prediction: ``(H, W)`` in [0, 1].
        truth: ``(H, W)`` bool.
        valid: ``(H, W)`` bool; the other pixels count no more than what lies beyond the image's edge.

    Returns:
        0 where the truth is empty.
    """
    if not truth.any():
        return 0.0
    error = np.abs(prediction - truth)
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    box = _surroundings(truth, REACH)  # nothing beyond is seen from inside the truth
    here, near = truth[box], error[box]
    nearest = distance_transform_edt(~here, return_distances=False, return_indices=True)
    surrounding = gaussian_filter(near[tuple(nearest)] * valid[box], sigma=5, radius=REACH, mode="constant")
    inside = np.minimum(near, surrounding)[here]
    false = valid & ~truth & (error > 0)
    nearly = cv2.distanceTransform((~truth).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[false]
    # OpenCV's last digit depends on where in memory an image lies; squares of these distances are whole numbers
    distance = np.sqrt(np.square(nearly, dtype=np.float64).round())
    outside = error[false] * (2 - np.exp2(-distance / 5))
    tp, fp = len(inside) - inside.sum(), outside.sum()
    if tp == 0:
        return 0.0
    recall, precision = 1 - inside.mean(), tp / (tp + fp)
    return float(2 * recall * precision / (recall + precision))


def _surroundings(region: np.ndarray, reach: int) -> tuple[slice, slice]:
    """The rectangle around a region that is not empty, with so many pixels more on each side."""
    rows, columns = (np.flatnonzero(region.any(axis)) for axis in (1, 0))
    down, across = (slice(max(0, int(places[0]) - reach), int(places[-1]) + 1 + reach) for places in (rows, columns))
    return down, across


def _histograms(levels: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """``(4, 2, 256)`` pixels of each level outside and inside the truth, in the rectangles around its centroid."""
    height, width = truth.shape
    row, column = (_boundary(truth.sum(axis)) for axis in (1, 0))
    codes = 4 * 2 * LEVELS
    lower, right = np.arange(height) >= row, np.arange(width) >= column
    quadrant = (lower[:, None] * np.uint16(2) + right) * np.uint16(2 * LEVELS)
    code = np.where(valid, quadrant + truth * np.uint16(LEVELS) + levels, np.uint16(codes))
    return np.bincount(code.ravel(), minlength=codes)[:codes].reshape(4, 2, LEVELS)


def _boundary(weights: np.ndarray) -> int:
    """Where the part after the centroid begins; the centroid itself, rounded half up, belongs to the first part."""
    total = weights.sum()
    return int(np.floor(weights @ np.arange(len(weights)) / total + 0.5)) + 1 if total else len(weights) // 2


def _object_score(histogram: np.ndarray) -> float:
    """``2 m / (m^2 + 1 + s)`` of the levels' mean and standard deviation."""
    count, mean, square = _moments(histogram)
    deviation = (square / count / max(1, count - 1)) ** 0.5 / WHITE
    level = mean / WHITE
    return float(2 * level / (level**2 + 1 + deviation))


def _region_score(histogram: np.ndarray) -> float:
    """Structural similarity of the levels and the truth in one rectangle."""
    count, mean, square = _moments(histogram.sum(0))
    positives, total_inside = int(histogram[1].sum()), int(histogram[1] @ np.arange(LEVELS))
    true_mean, true_square = positives / count, positives * (count - positives)
    product = count * total_inside - positives * int(histogram.sum(0) @ np.arange(LEVELS))
    # sums of products about the means, all of them times count, which the quotient cancels
    covariance, variance = product / WHITE, square / WHITE**2 + true_square
    numerator = 4 * (mean / WHITE) * true_mean * covariance
    denominator = ((mean / WHITE) ** 2 + true_mean**2) * variance
    if numerator == 0:
        return 1.0 if denominator == 0 else 0.0
    return float(numerator / denominator)


def _moments(histogram: np.ndarray) -> tuple[int, float, int]:
    """Number of pixels, their mean level, and the sum of squares about it times their number.

    The last is computed in whole numbers, so that equal levels give 0 and not nearly so.
    """
    levels = np.arange(LEVELS)
    count, total, squares = (int(histogram @ levels**power) for power in range(3))
    return count, total / count, count * squares - total**2
