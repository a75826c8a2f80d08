"""How well two counts of the same images agree."""

from __future__ import annotations

from typing import Any

import numpy as np

COVERAGE = 1.96
"""Standard deviations on either side of the mean that hold 95 % of a normal distribution."""


def agreement(true: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """Compare counts.

    Args:
        true: ``(images,)`` numbers of objects.
        predicted: likewise.

    Returns:
        ``true`` and ``predicted``, the sums; ``mae``, the mean absolute error of an image; ``relative_error``, the mean
        of the absolute error by the true number, over the images that have objects (None where none has); ``bias``, the
        mean of predicted - true, and ``limits``, the 95 % limits of agreement about it (Bland & Altman, Lancet 1986,
        doi:10.1016/S0140-6736(86)90837-8; None for a single image).
    """
    error = predicted.astype(np.float64) - true
    some = true > 0
    bias = float(error.mean())
    reach = COVERAGE * float(error.std(ddof=1)) if len(error) > 1 else None
    return {
        "true": int(true.sum()),
        "predicted": int(predicted.sum()),
        "mae": float(np.abs(error).mean()),
        "relative_error": float((np.abs(error[some]) / true[some]).mean()) if some.any() else None,
        "bias": bias,
        "limits": None if reach is None else [bias - reach, bias + reach],
    }
