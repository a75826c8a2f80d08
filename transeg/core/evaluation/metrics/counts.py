"""Metrics that follow from the numbers of right and wrong pixels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from transeg.core.interfaces import IGNORE

FEW = 4
"""Classes that NumPy counts on a CPU, one after the other; of more, a table of pairs takes less time."""


def count_pixels(prediction: Tensor, truth: Tensor, classes: int) -> np.ndarray:
    """Compare two label maps where the first of them is; of a GPU, the counts of pairs alone come back.

    Args:
        prediction: ``(H, W)`` labels, on any device.
        truth: ``(H, W)`` labels, on any device; pixels of IGNORE do not count.
        classes: number of labels.

    Returns:
        ``(classes, 4)`` true positives, false positives, false negatives, true negatives.
    """
    if prediction.device.type == "cpu" and classes <= FEW:
        return _count_classes(prediction.to(torch.uint8).numpy(), truth.to("cpu", torch.uint8).numpy(), classes)
    every = classes * classes
    kind = torch.uint8 if every <= 255 else torch.int64  # most of the time goes into memory that is passed through
    prediction, truth = prediction.to(kind), truth.to(prediction.device, kind, non_blocking=True)
    pairs = torch.add(prediction, truth, alpha=classes).masked_fill_(
        truth == IGNORE, every
    )  # costs less than leaving out
    confusion = torch.bincount(pairs.flatten(), minlength=every + 1)[:-1].view(classes, classes).cpu().numpy()
    tp = confusion.diagonal()
    fp, fn = confusion.sum(0) - tp, confusion.sum(1) - tp
    return np.stack([tp, fp, fn, confusion.sum() - tp - fp - fn], 1)


def _count_classes(prediction: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """As :func:`count_pixels`, of arrays of bytes."""
    counted = truth != IGNORE
    number, rows = np.count_nonzero(counted), []
    for label in range(classes):
        predicted, true = (prediction == label) & counted, truth == label
        tp = np.count_nonzero(predicted & true)
        fp, fn = np.count_nonzero(predicted) - tp, np.count_nonzero(true) - tp
        rows.append((tp, fp, fn, number - tp - fp - fn))
    return np.array(rows)


def overlap_ratios(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Dice, IoU, precision, recall and specificity of each class.

    Args:
        counts: ``(..., 4)`` true positives, false positives, false negatives, true negatives.

    Returns:
        ``(...)`` each. NaN where both the truth and the prediction are empty; recall also where only the truth is,
        and specificity only where the truth is everywhere. Precision is 0 where the prediction alone is empty.
    """
    tp, fp, fn, tn = np.moveaxis(counts.astype(np.float64), -1, 0)
    anything = np.where(tp + fp + fn > 0, 1.0, np.nan)
    return {
        "dice": anything * 2 * tp / np.maximum(2 * tp + fp + fn, 1),
        "iou": anything * tp / np.maximum(tp + fp + fn, 1),
        "precision": anything * tp / np.maximum(tp + fp, 1),
        "recall": np.where(tp + fn > 0, tp / np.maximum(tp + fn, 1), np.nan),
        "specificity": np.where(tn + fp > 0, tn / np.maximum(tn + fp, 1), np.nan),
    }


def mask_dice(prediction: Tensor, truth: Tensor, classes: int) -> float:
    """Mean Dice of the classes but background that occur in either mask ``(H, W)``; NaN where none does."""
    of_classes = overlap_ratios(count_pixels(prediction, truth, classes))["dice"][1:]
    return float("nan") if np.isnan(of_classes).all() else float(np.nanmean(of_classes))
